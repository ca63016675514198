"""edgepose doctor: what this machine has and lacks."""

from __future__ import annotations

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="For bug reports.")
def command(as_json: bool) -> None:
    """Print what this machine has and lacks for edgepose, and what mends each lack."""
    import json
    from dataclasses import asdict

    from edgepose.machine.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        click.echo(f"{finding.name:<17} {finding.found or '-'}")
        if finding.mend:
            click.echo(f"{'':<17} -> {finding.mend}")
