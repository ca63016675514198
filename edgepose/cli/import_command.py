"""edgepose import: a foreign ONNX gets a passport."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepose.model.spec import ModelSpec

DETECTOR_PRESETS = (  # export.detectors has them; --help works without it
    "rtmdet-nano", "rtmdet-raw", "rtmdet", "picodet", "picodet-raw", "yolox", "yolox-dets", "nanodet", "yolo",
    "yolo-end-to-end", "rt-detr", "detr",
)  # fmt: skip
PEOPLE_PRESETS = (  # export.people has them
    "yolo-pose", "yolo-pose-end-to-end", "rtmo", "rtmo-crowdpose", "yolox-pose", "rf-detr-pose", "detrpose",
    "movenet-multi", "movenet-single", "blazepose",
)  # fmt: skip


@click.command("import")
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option("--spec", type=click.Path(path_type=Path), help="JSON: how it is fed and read; see docs/spec.md.")
@click.option(
    "--preset",
    metavar="NAME",
    help="In place of a spec, of a well-known file: pp-tinypose-256x192, rtmpose-body17-256x192 and others, which an "
    f"unknown NAME lists; of people in one stage: {', '.join(PEOPLE_PRESETS)}; of a person detector: "
    f"{', '.join(DETECTOR_PRESETS)}.",
)
@click.option("--name", help="With --preset: names the files.  [default: the preset]")
@click.option(
    "--output-name",
    help="The heat-map output; of several outputs their names, with commas.  [default: by name, else in their order]",
)
@click.option(
    "--fp16-io", is_flag=True, help="FP16 crops and heat maps in NAME.fp16.onnx: half the bytes at both ends."
)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), default=".", help="Default: this folder.")
def command(
    onnx: Path,
    spec: Path | None,
    preset: str | None,
    name: str | None,
    output_name: str | None,
    fp16_io: bool,
    output_dir: Path,
) -> None:
    """Check a foreign ONNX against its SPEC and write it as NAME.onnx and NAME.fp16.onnx with passports.

    Any network that turns crops into heat maps can then be calibrated, built, run and evaluated; any detector of people
    finds them for `infer` and `evaluate`; a network that gives people with key points needs no detector.
    """
    if (spec is None) == (preset is None):
        raise click.UsageError("give either --spec FILE or --preset NAME")
    from edgepose.export import require_workstation

    require_workstation()
    described = _preset(preset, name or preset, onnx) if preset else _spec(Path(str(spec)))
    kind = described.head.kind
    outputs = tuple(output_name.split(",")) if output_name else ()
    if fp16_io and kind in ("detections", "people", "lift", "fields", "tags"):
        raise click.UsageError("--fp16-io goes with crops of people")
    if kind == "detections":
        from edgepose.export.detectors import import_detector

        click.echo(import_detector(onnx, described, output_dir, outputs=outputs).summary())
    elif kind == "people":
        from edgepose.export.people import import_people

        click.echo(import_people(onnx, described, output_dir, outputs=outputs).summary())
    elif kind == "lift":
        from edgepose.export.space import import_lifter

        if outputs:
            raise click.UsageError("--output-name goes with heat maps: a lifter has one output")
        click.echo(import_lifter(onnx, described, output_dir, report=_step).summary())
    elif kind in ("fields", "tags"):
        from edgepose.export.bottom_up import import_bottom_up

        click.echo(import_bottom_up(onnx, described, output_dir, outputs=outputs, report=_step).summary())
    else:
        from edgepose.export.foreign import import_model

        imported = import_model(onnx, described, output_dir, outputs=outputs, report=_step)
        click.echo(imported.summary())
        if fp16_io:
            from edgepose.export.graph.half_io import halve_io

            halve_io(imported.fp16)
            click.echo(f"{imported.fp16} takes and gives FP16")


def _step(step: str) -> None:
    click.echo(step, err=True)


def _spec(path: Path) -> ModelSpec:
    from edgepose.export.foreign import read_spec

    return read_spec(path)


def _preset(preset: str, name: str, onnx: Path) -> ModelSpec:
    """The spec of a well-known file, with the sizes that the file tells."""
    if preset in DETECTOR_PRESETS:
        from edgepose.export.detectors import preset_spec

        return preset_spec(name, preset, onnx)
    if preset in PEOPLE_PRESETS:
        from edgepose.export.people import people_preset

        return people_preset(name, preset, onnx)
    from edgepose.export.presets import pose_preset

    return pose_preset(preset, name)
