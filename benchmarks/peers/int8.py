"""What INT8 costs by edgepose and by other tools, on the same crops and the same people, as one table.

    python -m edgepose.benchmarks.peers.int8 --shared ../shared --work /tmp/int8 -o docs/measurements/int8_rows.md

onnxruntime.quantization, NNCF and Model-Optimizer each get an environment of their own (`venv` and `pip`), made in
the work folder at their first use. Every row is kept there as it is measured, and not measured again: the command can
be interrupted. A row that fails is told with its reason, and tried again by the next run.

ONNX Runtime computes every file as it is written, without optimisations, one crop at a time.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import onnx

from edgepose.benchmarks.peers import int8_worker
from edgepose.benchmarks.peers.int8_networks import NETWORKS, Network, one_pass
from edgepose.benchmarks.peers.int8_people import People, Row
from edgepose.calibration.budget import parse_budget
from edgepose.calibration.choose import Wanted, choose_layers
from edgepose.calibration.dataset import crops_of, read_calibration_set
from edgepose.calibration.pipeline import calibrate
from edgepose.calibration.ranges import COMPETING, METHODS
from edgepose.errors import EdgeposeError
from edgepose.files import whole_file, write_json

PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnx", "sympy"),
    "nncf": ("nncf", "onnx", "onnxruntime"),
    "modelopt": ("nvidia-modelopt[onnx]", "onnxruntime"),
}
MIXES = ("0.5px", "1px")
WAYS = (*(f"edgepose {name}" for name in METHODS), *(f"edgepose mix {text}" for text in MIXES), *int8_worker.SETTINGS)
TIME_LIMIT = 1800  # s that a peer may take for one network
HEAD = "| | in INT8 | shift mean, px | p95, px | {} | tool's time, s |\n| --- | --- | --- | --- | --- | --- |"


def peer_python(tool: str, work: Path) -> Path:
    """The Python of a tool's own environment, which is made where it is missing; RuntimeError where it cannot be."""
    folder = work / "environments" / tool
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        venv.create(folder, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[tool]])
        (folder / "ready").touch()
    return python


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"status {done.returncode}: {lines[-1] if lines else 'it says nothing'}")


def quantised(way: str, fp32: Path, shared: Path, work: Path, limit: int) -> onnx.ModelProto:
    """The network, quantised one way on people of calib_coco."""
    photos, boxes = shared / "data/calib_coco/images", shared / "data/calib_coco/person_boxes.json"
    folder = work / fp32.stem
    if way.startswith("edgepose"):
        choose, method, name = None, way.split()[-1], "plain"
        if "mix" in way:
            wanted = Wanted(parse_budget(method), None, None, None, COMPETING, lambda line: click.echo(line))
            choose, method, name = (lambda scene: choose_layers(scene, wanted)), "mse", "mix"
        made = calibrate(fp32, [photos], boxes, method=method, limit=limit, output_dir=folder / name, choose=choose)
        return onnx.load(made.int8)
    people = read_calibration_set([photos], boxes, limit=limit, seed=0).fitting
    with tempfile.TemporaryDirectory() as temporary:
        source, crops, output = (Path(temporary) / name for name in ("fp32.onnx", "crops.npy", "int8.onnx"))
        source.write_bytes(fp32.read_bytes())  # Model-Optimizer 0.47 rewrites what it reads
        np.save(crops, np.concatenate(list(crops_of(people, one_pass(fp32)))))
        python = peer_python(way.split("-")[0], work)
        _run([str(python), str(Path(int8_worker.__file__)), way, str(source), str(crops), str(output)])
        return onnx.load(output)


def table(network: Network, folder: Path, people: str) -> list[str]:
    """The rows that are known, and which are not."""
    head = HEAD.format("lost" if network.unit else "SQNR, dB")
    lines, missing = [f"## {network.name}", "", people, "", head], []
    for way in WAYS:
        path = folder / f"{way.replace(' ', '_')}.json"
        known = json.loads(path.read_text()) if path.is_file() else {"failed": "not measured"}
        if "failed" in known:
            missing.append(f"{way}: {known['failed']}")
            continue
        row = Row(**known)
        shift = "- | -" if row.mean is None else f"{row.mean:.3f} | {row.p95:.2f}"
        lost = "-" if row.lost is None else f"{row.lost:.2f} ± {row.error:.2f}"
        cost = lost if row.sqnr is None else f"{row.sqnr:.1f}"
        lines.append(f"| {way} | {row.int8_share:.1%} | {shift} | {cost} | {row.seconds:.0f} |")
    return [*lines, "", *(f"Without a row: {each}." for each in missing), ""]


@click.command()
@click.option("--shared", type=click.Path(path_type=Path, exists=True), required=True, help="The reference data.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Environments, files and rows stay here.")
@click.option("--network", "names", multiple=True, type=click.Choice(list(NETWORKS)), help="[default: all]")
@click.option("--way", "ways", multiple=True, type=click.Choice(WAYS), help="[default: all]")
@click.option("--limit", type=click.IntRange(1), default=120, show_default=True, help="Most people to calibrate on.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The tables, as Markdown.")
def main(
    shared: Path, work: Path, names: tuple[str, ...], ways: tuple[str, ...], limit: int, output: Path | None
) -> None:
    """Measure every way on every network that has no row yet, and print the tables."""
    lines: list[str] = []
    for name in names or NETWORKS:
        network, folder = NETWORKS[name], work / name
        folder.mkdir(parents=True, exist_ok=True)
        fp32 = network.make(shared, folder)
        people = None
        for way in ways or WAYS:
            path = folder / f"{way.replace(' ', '_')}.json"
            if path.is_file() and "failed" not in json.loads(path.read_text()):
                continue
            people = people or People(network, fp32, shared)
            try:
                if not way.startswith("edgepose"):
                    peer_python(way.split("-")[0], work)  # before the clock starts: it may install
                start = time.monotonic()
                made = quantised(way, fp32, shared, work, limit)
                row = asdict(people.measure(made, time.monotonic() - start))
            except (EdgeposeError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                row = {"failed": str(error).splitlines()[0]}
            write_json(path, row)
            click.echo(f"{name}, {way}: {row}", err=True)
        if people is not None:
            clear = sum(int(compared.sum()) for compared in people.compared)
            figure = f"; {clear} clear peaks of FP32 are compared"
            if people.judge is not None:
                figure = f"; FP32: {people.judge.figure} {people.judge.wanted:.2f}"
            count = sum(map(len, people.wanted))
            write_json(folder / "people.json", {"told": f"{count} people of {network.data}{figure}"})
        known = folder / "people.json"
        lines += table(network, folder, json.loads(known.read_text())["told"] if known.is_file() else "")
    text = "\n".join(lines)
    if output is None:
        click.echo(text)
        return
    with whole_file(output) as written:
        written.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
