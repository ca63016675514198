"""What a network becomes: NAME.onnx in FP32 and NAME.fp16.onnx, each with its passport; all four files or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import onnx

from edgepose.files import locked, put_in_place, sha256_of, temporary_folder
from edgepose.model.passport import Passport, keep_accuracy, passport_path, read_passport, write_passport
from edgepose.model.spec import ModelSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """Which weights a network was given.

    Attributes:
        source: URL or file name; "random".
        sha256: of the file; empty for random weights.
    """

    source: str
    sha256: str = ""


def file_names(spec: ModelSpec) -> list[str]:
    """The files of a pair; each model before its passport, which is worth nothing without it."""
    models = (Path(f"{spec.name}.onnx"), Path(f"{spec.name}.fp16.onnx"))
    return [path.name for model in models for path in (model, passport_path(model))]


def write_pair(
    fp32: onnx.ModelProto,
    fp16: onnx.ModelProto,
    spec: ModelSpec,
    weights: Weights,
    verified: Mapping[str, float],
    judge: Callable[[Path, Path], tuple[Mapping[str, float], T]],
    output_dir: Path,
) -> tuple[Path, Path, T]:
    """Write both graphs with their passports, once the FP16 file was judged good.

    A file that comes out as it was before, to the byte and in its recipe, keeps the accuracy that was measured on it.

    Args:
        verified: what was verified of the FP32 graph, for its passport.
        judge: gets both files as they will be, and gives what was verified of FP16 and what it found; an ExportError
            of its own leaves no file.

    Raises:
        OSError: the files cannot be put there.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with temporary_folder(output_dir) as folder:
        paths = (folder / f"{spec.name}.onnx", folder / f"{spec.name}.fp16.onnx")
        _write(fp32, paths[0], spec, "fp32", weights, verified, {})
        _write(fp16, paths[1], spec, "fp16", weights, {}, {paths[0].name: sha256_of(paths[0])})
        entries, found = judge(*paths)
        write_passport(paths[1], replace(read_passport(paths[1]), verified=dict(entries)))
        with locked(output_dir):  # or what another process measures meanwhile would be lost
            for path in paths:
                keep_accuracy(path, output_dir / path.name)
            put_in_place(folder, output_dir, file_names(spec))
    return output_dir / paths[0].name, output_dir / paths[1].name, found


def _write(
    model: onnx.ModelProto,
    path: Path,
    spec: ModelSpec,
    precision: str,
    weights: Weights,
    verified: Mapping[str, float],
    made_from: Mapping[str, str],
) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))
    passport = Passport(
        spec=spec,
        precision=precision,
        sha256=sha256_of(path),
        weights=weights.source,
        weights_sha256=weights.sha256,
        made_from=dict(made_from),
        versions={name: version(name) for name in ("edgepose", "torch", "onnx", "onnxsim")},
        verified=dict(verified),
    )
    write_passport(path, passport)
