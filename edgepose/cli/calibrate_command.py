"""edgepose calibrate: INT8 from your own images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgepose.cli.source_options import calibration_people, calibration_people_options
from edgepose.interrupts import STATUS

DEFAULT_LIMIT, EVERYBODY = 512, 10**6


@click.command("calibrate")
@click.option("--images", multiple=True, metavar="PATH", help="Folder, file or glob; may be given several times.")
@click.option(
    "--tracks",
    type=click.Path(path_type=Path),
    help="For a lifter, in place of images: key points over time; docs/lifting.md says their form.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="FP32 ONNX with its passport.  [default: the only one in this folder]",
)
@calibration_people_options
@click.option(
    "--method",
    type=click.Choice(("minmax", "percentile", "entropy", "mse", "max")),
    help="How a range is taken from what was seen.  [default: mse; with --budget all but entropy compete]",
)
@click.option(
    "--budget",
    metavar="LOSS",
    help="Most that INT8 may cost on people held out: 0.5px, 0.005oks, 0.3ap or 0.2pck. Layers that cost more stay in "
    "FP16.",
)
@click.option(
    "--device",
    metavar="NAME|FILE",
    help="With --budget: keep the time predicted for orin-nano, orin-nx, agx-orin, thor, cpu or a JSON file's device "
    "low.  [default: most multiply-adds in INT8]",
)
@click.option(
    "--profile",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="FP16.json INT8.json",
    help="With --budget and --device: what layers took in place of predictions, as trtexec --exportProfile writes it "
    "of a plan of NAME.fp16.onnx and of one of NAME.int8.onnx, both at batch 1.",
)
@click.option(
    "--annotations", type=click.Path(path_type=Path), help="With a --budget of ap or pck: COCO key-point annotations."
)
@click.option(
    "--annotated-images",
    type=click.Path(path_type=Path),
    help="The folder of their images; those calibrated on are left out.  [default: --images, where it is one folder]",
)
@click.option(
    "--equalise/--no-equalise", default=True, show_default=True, help="Bring channels of a tensor to like sizes."
)
@click.option(
    "--correct-biases/--no-correct-biases",
    default=True,
    show_default=True,
    help="Take the mean shift of rounded weights from the biases.",
)
@click.option(
    "--exclude/--no-exclude",
    default=True,
    show_default=True,
    help="With --budget: whether single layers may stay in FP16.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Also write a page, and FILE.json: what each file costs, which layers and people, the mixes that were tried.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="Most people (windows of a lifter) to use.  [default: 512; with --select all]",
)
@click.option(
    "--select",
    type=click.IntRange(1),
    metavar="N",
    help="Take the ranges from N people who stand for all, by what the network sees in them; it was measured to be no "
    "better than N at random.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which, where there are more.")
@click.option(
    "--fp16-io", is_flag=True, help="FP16 crops and heat maps in NAME.int8.onnx: half the bytes at both ends."
)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), help="[default: beside the model]")
def command(
    images: tuple[str, ...],
    tracks: Path | None,
    model: Path | None,
    boxes: str | None,
    detector: Path | None,
    method: str | None,
    budget: str | None,
    device: str | None,
    profile: tuple[Path, Path] | None,
    annotations: Path | None,
    annotated_images: Path | None,
    equalise: bool,
    correct_biases: bool,
    exclude: bool,
    report: Path | None,
    limit: int | None,
    select: int | None,
    seed: int,
    fp16_io: bool,
    output_dir: Path | None,
) -> None:
    """Quantise an exported or imported model, a detector too, to INT8 with images like those it will see.

    Writes NAME.calibration.json (what was measured; used again while weights, images, boxes, recipe and method stay
    the same) and NAME.int8.onnx (INT8 where it pays, FP16 elsewhere; one file for TensorRT and for the CPU), and
    says what INT8 does to the key points of people it did not calibrate on. A few hundred people are enough.

    With --budget a third of the images gives the ranges, a third measures mixes of INT8 and FP16 layers, of which the
    cheapest is taken that loses no more than that with 95 % certainty, and a third confirms it. What it measured
    stands in NAME.search.json, and a search that was interrupted goes on from there. Exit status 1: no mix is within
    the budget, or the last third loses more; the best one was written nevertheless.

    Exit status 3: done, but some images could not be read.
    """
    from edgepose.calibration import require_workstation

    require_workstation()
    from edgepose.calibration.pipeline import find_model
    from edgepose.cli.progress import progress
    from edgepose.model.passport import read_passport

    choose = None
    if profile is not None and (budget is None or device is None):
        raise click.UsageError("--profile goes with --budget and --device, whose peaks predict what it does not tell")
    if budget is not None:
        choose = _chooser(images, method, budget, device, profile, annotations, annotated_images, exclude)
    elif report is None and (device or annotations or annotated_images):
        raise click.UsageError("--device, --annotations and --annotated-images go with --budget or --report")
    if bool(images) == (tracks is not None):
        raise click.UsageError("give --images, or for a lifter --tracks")
    if tracks is not None and any(given is not None for given in (boxes, detector, choose, report)):
        raise click.UsageError("--boxes, --detector, --budget and --report go with --images")
    if choose is None and not exclude:
        raise click.UsageError("--no-exclude goes with --budget")
    switched = _switched(equalise, correct_biases) | ({} if select is None else {"--select": True})
    if tracks is not None and switched:
        raise click.UsageError(f"{next(iter(switched))} goes with --images")
    model = model or find_model(Path())
    if fp16_io and (tracks is not None or read_passport(model).spec.region is None):
        raise click.UsageError("--fp16-io goes with crops of people")
    options: dict[str, Any] = {
        "method": method or "mse",
        "limit": limit or (DEFAULT_LIMIT if select is None else EVERYBODY),
        "seed": seed,
        "output_dir": output_dir,
        "watch": progress,
    }
    if tracks is not None:
        from edgepose.calibration.lifters import calibrate_lifter

        click.echo(calibrate_lifter(model, tracks, **options).summary())
    elif read_passport(model).spec.region is None:
        from edgepose.calibration.whole_images import calibrate_pictures

        options_of_crops = {
            **_switched(equalise, correct_biases),
            "--select": select,
            "--budget": choose,
            "--boxes": boxes,
            "--detector": detector,
            "--report": report,
        }
        for option in (name for name, given in options_of_crops.items() if given is not None):
            raise click.UsageError(f"{option} goes with crops of people: this network takes whole images")
        _tell(calibrate_pictures(model, images, **options))
    else:
        from edgepose.calibration.mixes import Techniques
        from edgepose.calibration.pipeline import calibrate

        write = None if report is None else _reporter(images, report, budget, device, annotations, annotated_images)
        options |= {"select": select, "techniques": Techniques(equalise, correct_biases), "choose": choose}
        with calibration_people(boxes, detector) as people:
            result = calibrate(model, images, **people, **options)
        for line in () if write is None else write(result):
            click.echo(line, err=True)
        if fp16_io:
            from edgepose.export.graph.half_io import halve_io

            halve_io(result.int8)
        _tell(result, budget, result.chosen)


def _switched(equalise: bool, correct_biases: bool) -> dict[str, bool]:
    """The techniques that were switched off, by their option."""
    return {
        option: True
        for option, wanted in (("--no-equalise", equalise), ("--no-correct-biases", correct_biases))
        if not wanted
    }


def _tell(result: Any, budget: str | None = None, chosen: Any = None) -> None:
    """Say what a calibration did and how far its search for a budget came, and exit with the status that says so."""
    from edgepose.cli import SOME_UNREADABLE

    for line in result.warnings():
        click.echo(line, err=True)
    click.echo(result.summary())
    if chosen is not None and chosen.found.interrupted:
        click.echo("the search was interrupted: this is the best mix so far; the same command goes on", err=True)
        sys.exit(STATUS)
    if chosen is not None and not chosen.done:
        why = "the people kept to confirm it lose more" if chosen.found.met else "with 95 % certainty no mix is"
        click.echo(f"edgepose: not within {budget}: {why}; {chosen.summary()}", err=True)
        sys.exit(1)
    if result.unreadable:
        sys.exit(SOME_UNREADABLE)


def _chooser(
    images: tuple[str, ...],
    method: str | None,
    budget: str,
    device: str | None,
    profile: tuple[Path, Path] | None,
    annotations: Path | None,
    folder: Path | None,
    exclude: bool,
) -> Any:
    """What chooses the layers, a `pipeline.Choose`; UsageError for options that do not go together."""
    from edgepose.calibration.budget import LABELLED, parse_budget
    from edgepose.calibration.choose import Wanted, choose_layers
    from edgepose.calibration.costs import read_device
    from edgepose.calibration.profiles import read_profile
    from edgepose.calibration.ranges import COMPETING

    try:
        allowed = parse_budget(budget)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if allowed.unit in LABELLED and annotations is None:
        raise click.UsageError("a --budget of ap or pck needs --annotations")
    folder = _folder_of(annotations, folder, images)
    methods = COMPETING if method is None else (method,)
    peaks = read_device(device) if device else None
    times = None if profile is None else (read_profile(profile[0]), read_profile(profile[1]))
    wanted = Wanted(allowed, peaks, annotations, folder, methods, click.echo, exclude, times)
    return lambda scene: choose_layers(scene, wanted)


def _folder_of(annotations: Path | None, folder: Path | None, images: tuple[str, ...]) -> Path | None:
    """Where the annotated images are; UsageError where nobody said."""
    if folder is None and len(images) == 1 and Path(images[0]).is_dir():
        folder = Path(images[0])
    if annotations is not None and folder is None:
        raise click.UsageError("--annotations needs --annotated-images, the folder of their images")
    return folder


def _reporter(
    images: tuple[str, ...],
    report: Path,
    budget: str | None,
    device: str | None,
    annotations: Path | None,
    folder: Path | None,
) -> Any:
    """What writes the report of a calibration; what cannot be written is said before anything is measured."""
    from edgepose.calibration.charts import chart_script
    from edgepose.calibration.costs import read_device
    from edgepose.calibration.report import Labels, report_paths, write_report

    report_paths(report)
    chart_script()
    peaks = read_device(device) if device else None
    labels = None
    if annotations is not None:
        unit = "pck" if budget and budget.strip().lower().endswith("pck") else "ap"
        labels = Labels(unit, annotations, _folder_of(annotations, folder, images) or Path())
    return lambda result: write_report(report, result, result.scene, device, peaks, labels)
