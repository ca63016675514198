"""The workstation's first half: network and weights -> verified FP32 and FP16 ONNX with passports."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgepose.backends import load_runtime
from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.download import cache_folder, fetch
from edgepose.export.checkpoints.state_dict import StateDict, fits, load_into, read_checkpoint
from edgepose.export.drawn.crops import sample_crops, smooth_crops
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.run import beyond_fp16, run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.export.pair import Weights, file_names, write_pair
from edgepose.export.to_onnx import to_onnx
from edgepose.export.verify import FP16_LIMIT_PX, Difference, check_fp16, check_fp32, compare_outputs
from edgepose.export.zoo.model import ChoiceError, Model
from edgepose.files import check_targets, sha256_of
from edgepose.model.heads.simcc import SimCC
from edgepose.model.spec import ModelSpec

Report = Callable[[str], None]
FEW_VALUES = 12  # to take a BatchNorm channel's variance from
PEOPLE = 6  # drawn ones, to take the statistics from; not those that graphs are compared on


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        fp32, fp16: the two ONNX files; each has its passport beside it.
        spec: the recipe in the passports.
        weights: URL or file name; "random".
        fp32_difference: the simplified ONNX against the network (or, of an imported file, against the original).
        fp16_difference: the FP16 ONNX against the FP32 one, computed in FP32 between its weights.
        fp16_stored: the same, every result rounded to FP16 as a GPU stores it; None of random weights.
    """

    fp32: Path
    fp16: Path
    spec: ModelSpec
    weights: str
    fp32_difference: Difference
    fp16_difference: Difference
    fp16_stored: Difference | None = None

    def summary(self) -> str:
        """What was written and how exact it is, for people."""
        lines = [
            f"{path}: key points within {difference.px:.1e} {self.spec.grid_unit} of {reference} "
            f"({difference.peaks} compared), {self.spec.outputs_in_words} within {difference.relative:.1e} of their "
            f"largest value"
            for path, difference, reference in (
                (self.fp32, self.fp32_difference, "the original's"),
                (self.fp16, self.fp16_difference, "FP32's"),
            )
        ]
        if self.fp16_stored is not None:
            lines.append(
                f"With every result rounded to FP16, as a GPU stores it, its key points are within "
                f"{self.fp16_stored.px:.1e} {self.spec.grid_unit} of FP32's"
                + ("" if self.fp16_stored.px <= FP16_LIMIT_PX else ": look at evaluate --exact-fp16 before you use it")
            )
        few = self.fp32_difference.peaks < self.spec.num_keypoints
        if few and self.weights != "random":
            lines.append(
                f"Of three drawn people the network found only {self.fp32_difference.peaks} key points to compare; "
                f"edgepose evaluate tells on photographs whether the files are as good as each other."
            )
        if self.weights == "random":
            lines.append("The weights are random: these files are for timing, their key points mean nothing.")
        return "\n".join(lines)


def export_model(
    model: Model,
    output_dir: Path,
    *,
    weights: str = "auto",
    style: str | None = None,
    color: str | None = None,
    decoder: str | None = None,
    alignment: str | None = None,
    report: Report = lambda step: None,
) -> Exported:
    """Build the network, load its weights, and write `NAME.onnx` and `NAME.fp16.onnx` with their passports.

    Args:
        model: from `zoo.find_model`.
        weights: "auto" (the published or embedded checkpoint), "random" (for timing), or a checkpoint's path.
        style: one of the model's styles; None means "caffe" if the checkpoint's file name says so, else the first
            that the checkpoint fits.
        color: "rgb" or "bgr"; None means what the checkpoint's origin was trained with.
        decoder: how to read the heat maps; None, or the model's own, means as the checkpoint's origin reads them, and
            "dark" for a file whose name says so.
        alignment: "darkpose" for weights of DarkPose's own training, which also has no flip shift; None means the
            model's.
        report: called with each step's name as it starts.

    Raises:
        ChoiceError: the model has no such style or alignment.
        CheckpointError: the weights cannot be had, or are not this network's.
        ExportError: a written graph would not compute what the network does. No file is left.
    """
    path = _weights_path(model, weights)
    file_name = path.name.lower() if path else ""
    if style not in (None, *model.styles):
        raise ChoiceError(f"{model.label} has no {style} style; it has: {', '.join(model.styles)}")
    spec = model.spec
    if path is None:
        style = style or model.styles[0]
        network = model.build(style)
        report("making random weights, for timing only")
        randomize(network, spec)
        loaded = Weights("random")
    else:
        report(f"loading {path.name}")
        state, origin = read_checkpoint(path)
        style = style or _style_of(model, state, file_name)
        if len(model.styles) > 1:
            report(f"building it in {style} style")
        network = model.build(style)
        try:
            adapted = model.adapt(state)
        except (ValueError, RuntimeError) as error:  # the second is torch's, of shapes that do not go together
            raise CheckpointError(f"{path}: {error}") from error
        load_into(network, adapted, path=path, label=model.label)
        spec = spec.changed(**model.recipes.get(origin, {}))
        source = model.published.url if weights == "auto" and model.published else path.name
        asked = f", {style} style" if len(model.styles) > 1 else ""  # no checkpoint tells, so the passport does
        loaded = Weights(source + asked, sha256_of(path))
    spec = spec.changed(**model.recipes.get(style, {}))
    if isinstance(spec.head, SimCC):
        if decoder not in (None, spec.decoder):
            raise ChoiceError(f"{model.label} has a SimCC head, which has no {decoder} decoder: leave out --decoder")
    else:
        if decoder is None and "dark" in file_name:
            decoder = "dark"
        if decoder in (None, model.spec.decoder):
            decoder = spec.decoder
        spec = spec.changed(decoder=decoder)
    spec = spec.changed(color_order=color or spec.image.color_order)
    spec = _aligned(spec, alignment or spec.crop.alignment)
    spec = spec.changed(name=_file_stem(model, spec, style))
    check_targets(output_dir, file_names(spec))

    report("tracing the network")
    raw = to_onnx(network, spec)
    report("simplifying the graph")
    simplified = simplify(raw)
    report("comparing with the network")
    crops = sample_crops(spec)
    reference = _run(network, torch.from_numpy(crops))
    exact = partial(_run, network, torch.from_numpy(crops).double())
    for name, values in zip(spec.outputs, reference, strict=True):
        if np.ptp(values) == 0:
            raise CheckpointError(f"{weights}: {name} are {values.flat[0]:g} everywhere; its weights are lost")
    check_fp32(reference, run_onnx(raw, crops), spec, "the exported graph differs from the network", exact=exact)
    difference = check_fp32(
        reference, run_onnx(simplified, crops), spec, "the simplified graph differs from the network", exact=exact
    )
    return write_models(simplified, spec, loaded, difference, output_dir, report=report)


def _run(network: nn.Module, crops: torch.Tensor) -> list[np.ndarray]:
    """The network's outputs, in the crops' precision."""
    same = network if crops.dtype == torch.float32 else copy.deepcopy(network).to(crops.dtype)
    with torch.no_grad():
        found = same(crops)
    return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


def write_models(
    model: onnx.ModelProto,
    spec: ModelSpec,
    weights: Weights,
    difference: Difference,
    output_dir: Path,
    *,
    report: Report = lambda step: None,
) -> Exported:
    """Write a verified FP32 graph and its FP16 form, each with a passport; all four files or none.

    Nodes whose values come near the end of float16's range stay in FP32.

    Raises:
        ExportError: the FP16 graph's key points differ from the FP32 graph's.
        OSError: the files cannot be put there.
    """
    crops = sample_crops(spec)
    report("making the FP16 graph")
    large = beyond_fp16(model, crops[:1])
    half = to_fp16(model, keep_fp32=large)

    def judge(fp32: Path, fp16: Path) -> tuple[dict[str, float], tuple[Difference, Difference | None]]:
        report("comparing FP16 with FP32")
        reference = _outputs_of(fp32, crops, backend="onnxruntime")
        in_half = check_fp16(
            reference,
            _outputs_of(fp16, crops, backend="openvino"),
            spec,
            "the FP16 graph differs from FP32",
            random_weights=weights.source == "random",
        )
        stored = None
        if weights.source != "random":  # whose peaks are ties
            stored = compare_outputs(reference, _outputs_of(fp16, crops, backend="openvino", store_fp16=True), spec)
        entries = {**in_half.entries("fp16"), **(stored.entries("fp16_stored") if stored else {})}
        return {**entries, "fp16_nodes_kept_in_fp32": float(len(large))}, (in_half, stored)

    verified = difference.entries("fp32")
    fp32, fp16, found = write_pair(model, half, spec, weights, verified, judge, output_dir)
    return Exported(fp32, fp16, spec, weights.source, difference, *found)


def _outputs_of(path: Path, crops: np.ndarray, **options: Any) -> list[np.ndarray]:
    with closing(load_runtime(path, **options)) as runtime:
        return list(runtime.run({"crops": crops}).values())


def randomize(network: nn.Module, spec: ModelSpec) -> None:
    """Give the network reproducible random weights whose activations are of ordinary size at any depth.

    BatchNorm's statistics are taken from one pass over pictures, in float64, so that they do not depend on how many
    threads added them up: small ones of smooth colours, or of the input's size and of drawn people where a network
    takes no other. Leaves torch's global random state as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of the next batch
        if hasattr(network, "input_hw"):  # other statistics than people's let activations grow a thousandfold in RTMW-l
            _take_statistics(network, sample_crops(spec, count=PEOPLE, seed=1))
        else:
            # A variance of too few values would be far from that of other pictures: deep networks need larger ones.
            for size in ((128, 128), (256, 256)):
                if _take_statistics(network, smooth_crops(spec.changed(input_hw=size))) > FEW_VALUES:
                    break
        network.float().eval()


def _take_statistics(network: nn.Module, crops: np.ndarray) -> int:
    """Let BatchNorm take its statistics from these pictures; the fewest values that one took them from."""
    counts: list[int] = []
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [
        norm.register_forward_hook(lambda _, crops, __: counts.append(crops[0].numel() // crops[0].shape[1]))
        for norm in norms
    ]
    network.double().train()(torch.from_numpy(crops).double())
    for hook in hooks:
        hook.remove()
    return min(counts, default=FEW_VALUES + 1)


def _weights_path(model: Model, weights: str) -> Path | None:
    """The checkpoint's path; None for random weights."""
    if weights == "random":
        return None
    if weights != "auto":
        return Path(weights)
    if model.embedded:
        return model.embedded
    if model.published is None:
        found = f" ({model.by_hand.file}, for one)" if model.by_hand else ""
        raise CheckpointError(
            f"there is no address to fetch weights for {model.label} from: give a checkpoint with --weights FILE"
            f"{found}, or use --weights random, which is for timing only"
        )
    return fetch(model.published.url, model.published.sha256_prefix, cache_folder())


def _style_of(model: Model, state: StateDict, file_name: str) -> str:
    """The style that a checkpoint's file name or keys tell; where they do not, the model's default."""
    if "caffe" in file_name and "caffe" in model.styles:
        return "caffe"
    for style in model.styles[1:]:
        with torch.device("meta"):  # shapes only
            first, other = model.build(model.styles[0]), model.build(style)
        if fits(other, state) and not fits(first, state):
            return style
    return model.styles[0]


def _aligned(spec: ModelSpec, alignment: str) -> ModelSpec:
    """The spec with another alignment, and with what goes along with it in the training that has it."""
    if alignment == spec.crop.alignment:
        return spec
    if alignment != "darkpose" or spec.crop.alignment != "corner":
        found = f"{spec.name} with the {spec.decoder} decoder has {spec.crop.alignment} alignment"
        raise ChoiceError(f"{found}, not {alignment}")
    blur = (
        17 if spec.image.size_hw[0] == 384 else spec.heatmaps.blur_kernel
    )  # DarkPose's configurations for its larger input
    return spec.changed(alignment=alignment, flip_shift=0, blur_kernel=blur)


def _file_stem(model: Model, spec: ModelSpec, style: str) -> str:
    """What tells this file from the model's other forms; the embedded model has only one."""
    if not model.dataset:
        return model.name
    size = f"{spec.image.size_hw[0]}x{spec.image.size_hw[1]}"
    unusual = [spec.decoder] * (spec.decoder not in ("quarter", "simcc")) + [style] * (style != model.styles[0])
    unusual += ["darkpose"] * (spec.crop.alignment == "darkpose")
    return "_".join([model.name, model.dataset, size, *unusual])
