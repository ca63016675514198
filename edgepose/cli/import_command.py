"""edgepose import: a foreign heat-map ONNX gets a passport."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import")
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option(
    "--spec", type=click.Path(path_type=Path), required=True, help="JSON: how it is fed and read; see docs/spec.md."
)
@click.option(
    "--output-name",
    help="The heat-map output; of several outputs their names, with commas.  [default: by name, else the first]",
)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), default=".", help="Default: this folder.")
def command(onnx: Path, spec: Path, output_name: str | None, output_dir: Path) -> None:
    """Check a foreign heat-map ONNX against its SPEC and write it as NAME.onnx and NAME.fp16.onnx with passports.

    Any network that turns crops into heat maps can then be calibrated, built, run and evaluated.
    """
    from edgepose.export import require_workstation

    require_workstation()
    from edgepose.export.foreign import import_model, read_spec

    described = read_spec(spec)
    if described.head.kind == "lift":
        from edgepose.export.space import import_lifter

        if output_name:
            raise click.UsageError("--output-name goes with heat maps: a lifter has one output")
        lifter = import_lifter(onnx, described, output_dir, report=lambda step: click.echo(step, err=True))
        click.echo(lifter.summary())
        return
    if described.head.kind in ("fields", "tags"):
        from edgepose.export.bottom_up import import_bottom_up

        names = tuple(output_name.split(",")) if output_name else ()
        maps = import_bottom_up(
            onnx, described, output_dir, outputs=names, report=lambda step: click.echo(step, err=True)
        )
        click.echo(maps.summary())
        return
    imported = import_model(
        onnx,
        described,
        output_dir,
        output_name=output_name,
        report=lambda step: click.echo(step, err=True),
    )
    click.echo(imported.summary())
