"""edgepose benchmark: how fast model files run here."""

from __future__ import annotations

from pathlib import Path

import click

from edgepose.cli.options import THREADS, Number
from edgepose.limits import LONGEST_MEASUREMENT


def _batches(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    try:
        batches = [int(part) for part in value.split(",")]
    except ValueError:
        batches = []
    if not batches or min(batches) < 1:
        raise click.BadParameter(f"{value!r}: wanted numbers of people, 1,4,8 say")
    return batches


@click.command("benchmark")
@click.option("--engine", "engines", type=click.Path(path_type=Path), multiple=True, required=True, help="Repeatable.")
@click.option("--batch", "batches", default="1,4,8", show_default=True, callback=_batches, help="People in the frame.")
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
    type=click.Choice(("openvino", "onnxruntime")),
    multiple=True,
    help="Once for all engines, or once for each in their order.  [default: the best for each file]",
)
@click.option("--detector", type=click.Path(path_type=Path), help="Time this person detector as well.")
@click.option("--flip-test", is_flag=True, help="Run the mirrored crops as well.")
@click.option("--json", "as_json", is_flag=True, help="All numbers and conditions as JSON.")
def command(
    engines: tuple[Path, ...],
    batches: list[int],
    seconds: float,
    threads: int | None,
    backends: tuple[str, ...],
    detector: Path | None,
    flip_test: bool,
    as_json: bool,
) -> None:
    """Time model files from a decoded 1080p frame to key points, stage by stage.

    Several engines run in turn, round by round; the speed-up is the median over the rounds against the first. A
    TensorRT plan is measured with and without CUDA graphs. People a second, and on a Jetson joules a person, are of
    each running alone, frame after frame; what the board takes when idle is in them.
    """
    import json
    import sys
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from edgepose.backends import load_backend
    from edgepose.benchmarks.detection import measure_detector
    from edgepose.benchmarks.energy import counted, find_rails
    from edgepose.benchmarks.latency import measure
    from edgepose.benchmarks.latency_text import conditions, table
    from edgepose.estimate.detect import load_detector

    if len(backends) not in (0, 1, len(engines)):
        raise click.UsageError(f"{len(backends)} backends for {len(engines)} engines: name one, or one for each")
    chosen = backends if len(backends) == len(engines) else [*backends, None][:1] * len(engines)
    rails = find_rails()
    rows, missing = [], []
    with ExitStack() as opened:
        loaded = [
            opened.enter_context(closing(load_backend(engine, backend=backend, threads=threads)))
            for engine, backend in zip(engines, chosen, strict=True)
        ]
        for batch in batches:
            with click.progressbar(length=1000, label=f"{batch} people", file=sys.stderr) as bar:
                measured = measure(
                    loaded,
                    batch,
                    seconds,
                    flip_test=flip_test,
                    rails=rails,
                    progress=lambda share: bar.update(int(share * 1000) - bar.pos),
                )
            rows += measured.rows
            missing += measured.missing
        about = conditions(loaded, threads)
        found = None
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
