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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime

from edgepose.backends.host import HostBackend
from edgepose.benchmarks.peers import int8_worker
from edgepose.benchmarks.peers.int8_networks import NETWORKS, Network, one_pass
from edgepose.benchmarks.peers.shares import int8_share
from edgepose.calibration.budget import CONFIDENT, FigureJudge, parse_budget
from edgepose.calibration.choose import Wanted, choose_layers
from edgepose.calibration.dataset import crops_of, read_calibration_set
from edgepose.calibration.pipeline import calibrate
from edgepose.calibration.ranges import COMPETING, METHODS
from edgepose.errors import EdgeposeError
from edgepose.evaluation.evaluate import annotated_boxes
from edgepose.files import whole_file, write_json
from edgepose.io.annotations import Annotations
from edgepose.io.images import read_image
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import decode_outputs

PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnx", "sympy"),
    "nncf": ("nncf", "onnx", "onnxruntime"),
    "modelopt": ("nvidia-modelopt[onnx]", "onnxruntime"),
}
MIXES = ("0.5px", "1px")
WAYS = (*(f"edgepose {name}" for name in METHODS), *(f"edgepose mix {text}" for text in MIXES), *int8_worker.SETTINGS)
TIME_LIMIT = 1800  # s that a peer may take for one network
HEAD = "| | in INT8 | shift mean, px | p95, px | lost | tool's time, s |\n| --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Row:
    """One way to quantise one network: px of the input, percentage points lost and their paired standard error."""

    int8_share: float
    mean: float
    p95: float
    lost: float | None
    error: float | None
    seconds: float


class AsWritten:
    """A runtime that computes a graph node by node, and keeps the key points that it found, in heat-map px."""

    name, arithmetic = "onnxruntime", "as written"

    def __init__(self, model: onnx.ModelProto, path: Path, spec: ModelSpec) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.path, self.passport = path, replace(read_passport(path), spec=spec)
        self.kept: list[np.ndarray] = []

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Heat maps (N, K, h, w) for crops (N, 3, H, W), one crop at a time."""
        name, spec = self._session.get_inputs()[0].name, self.passport.spec
        maps = [self._session.run(["heatmaps"], {name: crop[None]})[0] for crop in arrays["crops"]]
        empty = np.zeros((0, len(spec.skeleton.keypoints), *spec.grid_hw), np.float32)
        outputs = {"heatmaps": np.concatenate([empty, *maps]).astype(np.float32)}
        self.kept.append(decode_outputs(outputs, spec)[0])
        return outputs

    def close(self) -> None:
        """Nothing to free."""


class People:
    """Those a network is measured on, with what FP32 finds."""

    def __init__(self, network: Network, fp32: Path, shared: Path) -> None:
        self.spec = one_pass(fp32)
        self.annotations, self.folder = network.people(shared)
        self.fp32, self.judge = fp32, None
        reference = AsWritten(onnx.load(fp32), fp32, self.spec)
        if network.unit:
            seen = frozenset[str]()
            self.judge = FigureJudge(network.unit, HostBackend(reference), self.annotations, self.folder, seen)
        else:
            _look(HostBackend(reference), self.annotations, self.folder)
        self.wanted: list[np.ndarray] = reference.kept

    def measure(self, model: onnx.ModelProto, seconds: float) -> Row:
        """What a quantised graph loses against FP32."""
        runtime = AsWritten(model, self.fp32, self.spec)
        loss = None
        if self.judge is None:
            _look(HostBackend(runtime), self.annotations, self.folder)
        else:
            loss = self.judge.loss(HostBackend(runtime))
        scale = self.spec.image.size_hw[1] / self.spec.grid_hw[1]
        moved = scale * np.concatenate(
            [
                np.linalg.norm(found[..., :2] - exact[..., :2], axis=-1)[exact[..., 2] > CONFIDENT]
                for found, exact in zip(runtime.kept, self.wanted, strict=True)
            ]
        )
        mean, p95 = (float(moved.mean()), float(np.quantile(moved, 0.95))) if len(moved) else (np.nan, np.nan)
        lost, error = (None, None) if loss is None else (loss.value, loss.error)
        return Row(int8_share(model), mean, p95, lost, error, seconds)


def _look(backend: HostBackend, annotations: Annotations, folder: Path) -> None:
    for image in annotations.images:
        pixels = read_image(folder / image.file_name)
        boxes = annotated_boxes(image, pixels.shape[:2])[image.posed]
        backend.keypoints(pixels, Regions.around(boxes, backend.spec))


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
    lines, missing = [f"## {network.name}", "", people, "", HEAD], []
    for way in WAYS:
        path = folder / f"{way.replace(' ', '_')}.json"
        known = json.loads(path.read_text()) if path.is_file() else {"failed": "not measured"}
        if "failed" in known:
            missing.append(f"{way}: {known['failed']}")
            continue
        row = Row(**known)
        lost = "-" if row.lost is None else f"{row.lost:.2f} ± {row.error:.2f}"
        lines.append(f"| {way} | {row.int8_share:.1%} | {row.mean:.3f} | {row.p95:.2f} | {lost} | {row.seconds:.0f} |")
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
            figure = "" if people.judge is None else f"; FP32: {people.judge.figure} {people.judge.wanted:.2f}"
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
