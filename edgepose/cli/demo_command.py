"""edgepose demo: the whole chain on the embedded model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option("-o", "--out", "output", type=click.Path(path_type=Path), default="demo_output", show_default=True)
@click.option("--images", type=click.Path(path_type=Path), help="Your own pictures, with --annotations.")
@click.option("--annotations", type=click.Path(path_type=Path), help="COCO key-point annotations of --images.")
def command(output: Path, images: Path | None, annotations: Path | None) -> None:
    """Export, calibrate, run and measure the embedded model, and show it on a page.

    Without --images it draws its own people; nothing is fetched.
    """
    from edgepose.export import require_workstation

    if (images is None) != (annotations is None):
        raise click.UsageError("--images and --annotations go together")
    require_workstation()
    from edgepose.benchmarks.demo.run import run_demo
    from edgepose.evaluation.report import table_of

    demo = run_demo(output, images=images, annotations=annotations, report=lambda step: click.echo(step, err=True))
    click.echo(table_of(demo.evaluation))
    click.echo(demo.speed)
    for note in demo.evaluation.notes():
        click.echo(note, err=True)
    click.echo(f"overlays: {demo.overlays}")
    click.echo(f"page: {demo.page.resolve().as_uri()}")
