"""edgepose inspect: what is known of a model file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The passport as it is, as JSON.")
def command(file: Path, as_json: bool) -> None:
    """Print the passport of FILE (an ONNX or a plan), checked against the file's hash."""
    import json

    from edgepose.backends.inspection import describe
    from edgepose.model.passport import read_passport

    passport = read_passport(file)
    if as_json:
        click.echo(json.dumps(passport.to_json(), indent=2))
        return
    click.echo("\n".join(describe(file, passport)))
