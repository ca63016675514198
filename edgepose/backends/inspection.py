"""A passport in words: what `edgepose inspect` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepose.cuda.nvcc import kernels_path, read_kernels
from edgepose.errors import EdgeposeError, EngineMismatchError
from edgepose.model.heads import Shape
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.trt.layers import read_layers


def describe(path: Path, passport: Passport) -> list[str]:
    """The lines of `edgepose inspect`: what a model file is, how it is fed and read, and how good it is."""
    spec = passport.spec
    rows = [
        ("file", f"{path.name}, {path.stat().st_size / 2**20:.1f} MiB, sha256 {passport.sha256[:12]}…"),
        ("model", f"{spec.name}, {passport.precision.upper()}"),
        ("weights", "random: for timing only" if passport.random_weights else passport.weights),
        *_input(spec),
        *_head(spec),
    ]
    if len(spec.skeleton):
        points = f"{spec.num_keypoints} ({spec.skeleton.name}): {', '.join(spec.skeleton.keypoints)}"
        rows.append(("key points", points))
    rows += [("made from", f"{name} (sha256 {digest[:12]}…)") for name, digest in passport.made_from.items()]
    if passport.engine:
        rows += _engine(path, passport)
    if passport.versions:
        rows.append(("versions", ", ".join(f"{name} {number}" for name, number in passport.versions.items())))
    rows += [("verified", f"{name} {value:.3g}") for name, value in passport.verified.items()]
    rows += [("accuracy", _accuracy(entry)) for entry in passport.accuracy]
    return [f"{name:<10} {text}" for name, text in rows]


def _engine(path: Path, passport: Passport) -> list[tuple[str, str]]:
    info = passport.plan
    details = [f"batch 1 to {info.max_batch}"]
    details += ["version compatible"] * info.version_compatible
    details += [] if info.dla is None else [f"DLA core {info.dla}"]
    rows = [
        ("engine", f"{info.runtime} {info.tensorrt}, {', '.join(details)}"),
        ("built for", " ".join([info.gpu, *info.targets]).strip()),
    ]
    try:
        kernels = read_kernels(path, passport)
        rows.append(("kernels", f"{kernels_path(path).name}, {len(kernels) / 2**10:.0f} KiB"))
    except EngineMismatchError as error:
        rows.append(("kernels", str(error)))
    if info.computes is not None:
        rows.append(("computes", info.computes.text()))
    if info.verdict is not None:
        rows.append(("verified", info.verdict.text))
    try:
        layers = read_layers(path, passport)
    except EdgeposeError as error:
        return [*rows, ("layers", f"not listed: {error}")]
    counts = Counter(layer.precision for layer in layers)
    rows.append(("layers", ", ".join(f"{count} {precision}" for precision, count in counts.most_common())))
    return rows + [("", f"{layer.precision:<5} {layer.kind} {layer.name}") for layer in layers]


def _input(spec: ModelSpec) -> list[tuple[str, str]]:
    picture = spec.input
    if picture is None:
        return [("input", _shapes(spec.inputs))]
    size = f"{picture.size_hw[0]}x{picture.size_hw[1]} {picture.color_order.upper()}"
    how = "stretched" if picture.resize == "plain" else f"letterbox ({picture.anchor}, filled with {picture.fill})"
    return [
        ("input", f"{size}, " + (f"box x {spec.region.padding:g}" if spec.region else how)),
        ("normalise", f"(pixel - {_numbers(picture.mean)}) / {_numbers(picture.std)}"),
    ]


def _head(spec: ModelSpec) -> list[tuple[str, str]]:
    head = spec.head
    if not isinstance(head, (Heatmaps, HeatmapsWithOffsets)):
        return [("head", f"{head.kind}: {_shapes(spec.outputs)}")]
    maps = f"{spec.num_maps} of {head.size_hw[0]}x{head.size_hw[1]}, {spec.crop.alignment} alignment"
    if head.decoder in ("argmax", "quarter"):
        details = f" ({head.quarter_guard} border guard)" if head.decoder == "quarter" else ""
    else:
        offsets = f", offsets x {head.offset_radius:g}" if isinstance(head, HeatmapsWithOffsets) else ""
        details = f" (blur {head.blur_kernel}{offsets})"
    rows = [("heat maps", maps), ("decoder", f"{head.decoder}{details}, flip test shifts by {head.flip_shift} px")]
    if head.refine is not None:
        share, decoder = head.refine.share, head.refine.decoder
        rows.append(("2nd pass", f"crops of {share:g} of the side around each key point, {decoder} decoder"))
    return rows


def _shapes(named: Mapping[str, Shape]) -> str:
    return ", ".join(
        f"{name} {'x'.join('?' if size is None else str(size) for size in shape)}" for name, shape in named.items()
    )


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
