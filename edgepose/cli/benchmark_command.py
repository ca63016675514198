"""edgepose benchmark: how fast model files run here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgepose.cli.options import SCALE_HELP, THREADS, Number, frame_memory_option, memory_of_plans
from edgepose.limits import LONGEST_MEASUREMENT


def _batches(_: click.Context, __: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        batches = [int(part) for part in value.split(",")]
    except ValueError:
        batches = []
    if not batches or min(batches) < 1:
        raise click.BadParameter(f"{value!r}: wanted numbers of people, 1,4,8 say")
    return batches


@click.command("benchmark")
@click.option("--engine", "models", type=click.Path(path_type=Path), multiple=True, required=True, help="Repeatable.")
@click.option("--batch", "batches", callback=_batches, help="People in the frame, of crops.  [default: 1,4,8]")
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="The picture for networks of whole images; grouping takes longer with more people.  [default: one of nobody]",
)
@click.option(
    "--seconds",
    type=Number(0, LONGEST_MEASUREMENT, min_open=True),
    default=5.0,
    show_default=True,
    help="Measuring time of the latency of each row of the table; half of it again for throughput and energy.",
)
@click.option("--threads", type=THREADS, help="CPU threads.  [default: the backend's choice]")
@click.option(
    "--backend",
    "backends",
    type=click.Choice(("openvino", "openvino-bf16", "onnxruntime")),
    multiple=True,
    help="Once for all models, or once for each in their order.  [default: the best for each file, in FP32]",
)
@frame_memory_option
@click.option("--detector", type=click.Path(path_type=Path), help="Time this person detector as well.")
@click.option("--scale", "scales", type=click.Path(path_type=Path), multiple=True, help=SCALE_HELP)
@click.option("--flip-test", is_flag=True, help="Run the mirrored pictures as well.")
@click.option("--json", "as_json", is_flag=True, help="All numbers and conditions as JSON.")
def command(
    models: tuple[Path, ...],
    batches: list[int] | None,
    image: Path | None,
    seconds: float,
    threads: int | None,
    backends: tuple[str, ...],
    frame_memory: str | None,
    detector: Path | None,
    scales: tuple[Path, ...],
    flip_test: bool,
    as_json: bool,
) -> None:
    """Time model files from a decoded 1080p frame to key points, stage by stage.

    Several models run in turn, round by round; the speed-up is the median over the rounds against the first. A
    TensorRT plan is measured with and without CUDA graphs. People a second, and on a Jetson joules a person, are of
    each running alone, frame after frame; what the board takes when idle is in them. Networks that find everybody in a
    whole image are measured on one image, and the people are those that they find in it.
    """
    import json
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from edgepose.backends import BF16, load_backend, load_runtime
    from edgepose.benchmarks.bf16 import cost_of_bf16
    from edgepose.benchmarks.detection import measure_detector
    from edgepose.benchmarks.energy import counted, find_rails
    from edgepose.benchmarks.latency_text import MADE_FRAME, conditions, table
    from edgepose.estimate.detect import load_detector

    if len(backends) not in (0, 1, len(models)):
        raise click.UsageError(f"{len(backends)} backends for {len(models)} models: name one, or one for each")
    whole = _takes_whole_images(models)
    if whole and (batches or detector):
        raise click.UsageError(f"--batch and --detector go with crops of people; {models[0]} takes whole images")
    if scales and not (whole and len(models) == 1):
        raise click.UsageError("--scale goes with one --engine, a bottom-up network")
    if image is not None and not whole:
        raise click.UsageError(f"--image goes with networks of whole images; {models[0]} takes crops of people")
    memory = memory_of_plans(frame_memory, models)
    chosen = backends if len(backends) == len(models) else [*backends, None][:1] * len(models)
    rails = find_rails()
    with ExitStack() as opened:
        load: Callable[..., Any] = load_runtime if whole else load_backend
        loaded = [
            opened.enter_context(closing(load(model, backend=backend, threads=threads, **memory)))
            for model, backend in zip(models, chosen, strict=True)
        ]
        others = [
            opened.enter_context(closing(load_runtime(path, backend=chosen[0], threads=threads))) for path in scales
        ]
        found = None
        if whole:
            rows, missing, frame = _measure_whole(loaded, others, image, seconds, flip_test, rails)
        else:
            rows, missing = _measure_crops(loaded, batches or [1, 4, 8], seconds, flip_test, rails)
            frame = MADE_FRAME
        about = conditions(loaded, threads, frame=frame)
        for model, backend in zip(models, chosen, strict=True):
            if backend == BF16 and not whole:
                about.found["BF16"] = cost_of_bf16(model, threads)
        if memory:
            about.found["frame memory"] = memory["frame_memory"]
        if scales:
            about.found["scales"] = ", ".join(["its own", *(path.name for path in scales)])
        if detector is not None:
            finder = opened.enter_context(closing(load_detector(detector, threads=threads)))
            found = measure_detector(finder, seconds)
    if rails:
        about.found["energy"] = (
            f"of {' + '.join(counted([rail.label for rail in rails]))}, what is spent when idle in it"
        )
    else:
        missing.append("energy: there is no INA3221 power monitor in /sys/class/hwmon")
    missing = list(dict.fromkeys([*missing, *about.missing]))
    if as_json:
        data = {"rows": [asdict(row) for row in rows], "conditions": about.found, "not_measured": missing}
        if found is not None:
            data["detector"] = asdict(found)
        click.echo(json.dumps(data, indent=2))
        return
    click.echo(table(rows))
    click.echo()
    if found is not None:
        click.echo(found.text())
    for name, value in about.found.items():
        click.echo(f"{name}: {value}")
    for line in missing:
        click.echo(f"not measured: {line}")


def _takes_whole_images(models: Sequence[Path]) -> bool:
    """Whether the models find everybody in a whole image; they must agree."""
    from edgepose.estimate.whole import finds_everybody
    from edgepose.model.passport import passport_path, read_passport

    kinds = [passport_path(model).is_file() and finds_everybody(read_passport(model).spec) for model in models]
    if len(set(kinds)) > 1:
        raise click.UsageError(
            f"{models[kinds.index(True)]} takes whole images and {models[kinds.index(False)]} does not: measure "
            f"them apart"
        )
    return kinds[0]


def _measure_crops(
    loaded: Sequence[Any], batches: Sequence[int], seconds: float, flip_test: bool, rails: Sequence[Any]
) -> tuple[list[Any], list[str]]:
    from edgepose.benchmarks.latency import measure

    rows: list[Any] = []
    missing: list[str] = []
    for batch in batches:
        with _bar(f"{batch} people") as progress:
            measured = measure(loaded, batch, seconds, flip_test=flip_test, rails=rails, progress=progress)
        rows += measured.rows
        missing += measured.missing
    return rows, missing


def _measure_whole(
    loaded: Sequence[Any],
    scales: Sequence[Any],
    image: Path | None,
    seconds: float,
    flip_test: bool,
    rails: Sequence[Any],
) -> tuple[list[Any], list[str], str]:
    """The rows, what could not be measured, and which picture it was."""
    from edgepose.benchmarks.latency import make_frame
    from edgepose.benchmarks.latency_text import MADE_FRAME
    from edgepose.benchmarks.whole_images import measure_whole
    from edgepose.io.images import read_image

    pixels, frame = make_frame(0)[0], MADE_FRAME
    missing = ["grouping of people: the made frame shows nobody; give --image with a picture of some"]
    if image is not None:
        pixels, missing = read_image(image), []
        frame = f"{image.name}, {pixels.shape[1]}x{pixels.shape[0]} RGB, decoded"
    with _bar("whole image") as progress:
        options: dict[str, Any] = {"flip_test": flip_test, "scales": scales, "rails": rails, "progress": progress}
        rows = measure_whole(loaded, pixels, seconds, **options)
    return rows, missing, frame


@contextmanager
def _bar(label: str) -> Iterator[Callable[[float], None]]:
    """Shows on stderr how much of a measurement is done."""
    with click.progressbar(length=1000, label=label, file=sys.stderr) as bar:
        yield lambda share: bar.update(int(share * 1000) - bar.pos)
