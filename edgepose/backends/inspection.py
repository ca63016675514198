"""A passport in words: what `edgepose inspect` prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgepose.cuda.nvcc import read_kernels
from edgepose.errors import EdgeposeError, EngineMismatchError
from edgepose.model.passport import Passport
from edgepose.trt.layers import read_layers


def describe(path: Path, passport: Passport) -> list[str]:
    """The lines of `edgepose inspect`: what a model file is, how it is fed and read, and how good it is."""
    spec = passport.spec
    rows = [
        ("file", f"{path.name}, {path.stat().st_size / 2**20:.1f} MiB, sha256 {passport.sha256[:12]}…"),
        ("model", f"{spec.name}, {passport.precision.upper()}"),
        ("weights", "random: for timing only" if passport.random_weights else passport.weights),
        ("input", f"{spec.input_hw[0]}x{spec.input_hw[1]} {spec.color_order.upper()}, box x {spec.box_padding:g}"),
        ("normalise", f"(pixel - {_numbers(spec.mean)}) / {_numbers(spec.std)}"),
        (
            "heat maps",
            f"{spec.output_channels} of {spec.heatmap_hw[0]}x{spec.heatmap_hw[1]}, {spec.alignment} alignment",
        ),
        ("decoder", _decoder(passport)),
        *_second_pass(passport),
        ("key points", f"{spec.num_keypoints} ({spec.skeleton.name}): {', '.join(spec.skeleton.keypoints)}"),
    ]
    rows += [("made from", f"{name} (sha256 {digest[:12]}…)") for name, digest in passport.made_from.items()]
    if passport.engine:
        rows += _engine(path, passport)
    if passport.versions:
        rows.append(("versions", ", ".join(f"{name} {number}" for name, number in passport.versions.items())))
    rows += [("verified", f"{name} {value:.3g}") for name, value in passport.verified.items()]
    rows += [("accuracy", _accuracy(entry)) for entry in passport.accuracy]
    return [f"{name:<10} {text}" for name, text in rows]


def _engine(path: Path, passport: Passport) -> list[tuple[str, str]]:
    engine = passport.engine or {}
    details = ["batch 1 to {}".format(engine["max_batch"])]
    details += ["version compatible"] * engine["version_compatible"]
    details += [] if engine["dla"] is None else [f"DLA core {engine['dla']}"]
    rows = [
        ("engine", f"{engine['runtime']} {engine['tensorrt']}, {', '.join(details)}"),
        ("built for", " ".join([engine["gpu"], *engine["targets"]]).strip()),
    ]
    try:
        kernels = read_kernels(path, passport)
        rows.append(("kernels", f"{engine['kernels']['file']}, {len(kernels) / 2**10:.0f} KiB"))
    except EngineMismatchError as error:
        rows.append(("kernels", str(error)))
    try:
        layers = read_layers(path, passport)
    except EdgeposeError as error:
        return [*rows, ("layers", f"not listed: {error}")]
    counts = Counter(layer.precision for layer in layers)
    rows.append(("layers", ", ".join(f"{count} {precision}" for precision, count in counts.most_common())))
    return rows + [("", f"{layer.precision:<5} {layer.kind} {layer.name}") for layer in layers]


def _decoder(passport: Passport) -> str:
    spec = passport.spec
    details = {"argmax": "", "quarter": f" ({spec.quarter_guard} border guard)"}
    blur = f" (blur {spec.blur_kernel}{f', offsets x {spec.offset_radius:g}' if spec.has_offsets else ''})"
    return f"{spec.decoder}{details.get(spec.decoder, blur)}, flip test shifts by {spec.flip_shift} px"


def _second_pass(passport: Passport) -> list[tuple[str, str]]:
    refine = passport.spec.refine
    if refine is None:
        return []
    return [("2nd pass", f"crops of {refine.share:g} of the side around each key point, {refine.decoder} decoder")]


def _accuracy(entry: dict[str, Any]) -> str:
    """What was measured on what; versions, hashes and what could not be measured are in the passport alone."""
    told = {key: value for key, value in entry.items() if value is not None and not isinstance(value, dict)}
    return ", ".join(f"{key} {_text(value)}" for key, value in told.items() if not key.endswith("sha256"))


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
