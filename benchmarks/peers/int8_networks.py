"""The networks of the INT8 comparison, and the people they are measured on, all from the reference data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from edgepose.benchmarks.studies.int8_shift import make_fp32
from edgepose.export.foreign import import_model
from edgepose.export.pipeline import export_model
from edgepose.export.presets import pose_preset
from edgepose.export.training.data import is_held_out
from edgepose.export.zoo.find import find_model
from edgepose.io.annotations import Annotations, read_annotations
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec

LSP_STEP = 8  # of the photographs of LSP every eighth
GOLDEN_IMAGES = 12  # networks with golden weights are slow, and have no figure


@dataclass(frozen=True)
class Network:
    """One network and its people.

    Attributes:
        source: a file among the reference models, "embedded", or "golden": weights that are a function of their names.
        data: "coco" or "lsp". unit: the figure that is lost, "ap" or "pck"; "" for a network that nobody trained.
        held_out: the share of the photographs that training did not see; 1: all.
    """

    name: str
    source: str
    data: str
    unit: str
    held_out: float = 1.0

    def make(self, shared: Path, folder: Path) -> Path:
        """The FP32 file with its passport, made in `folder` if it is not there."""
        known = [path for path in folder.glob(f"{self.name}*.onnx") if not path.name.endswith(".fp16.onnx")]
        if known:
            return known[0]
        if self.source == "embedded":
            return export_model(find_model(self.name), folder).fp32
        if self.source == "golden":
            return make_fp32(self.name, folder)
        path = shared / "models" / self.source
        return import_model(path, _spec_of(self.name, path, shared), folder).fp32

    def people(self, shared: Path) -> tuple[Annotations, Path]:
        """Annotations of those it is measured on, and the folder of their images."""
        folder = shared / "data" / self.data
        annotations = read_annotations(folder / "person_keypoints.json")
        images = list(annotations.images)
        if self.held_out < 1:
            images = [image for image in images if is_held_out(image.file_name, self.held_out)]
        elif self.data == "lsp":
            images = images[::LSP_STEP]
        elif not self.unit:
            images = [image for image in images if image.posed.any()][:GOLDEN_IMAGES]
        return replace(annotations, images=tuple(images)), folder / "images"


NETWORKS = {
    network.name: network
    for network in (
        Network("simplebaseline_tiny", "embedded", "lsp", "pck", 0.2),
        Network("ultralight_simplepose", "ultralight_simplepose_coco17_256x192.onnx", "coco", "ap"),
        Network("pptinypose", "pptinypose_coco17_256x192.onnx", "coco", "ap"),
        Network("efficientpose_rt", "efficientpose_rt_mpii16_224x224.onnx", "lsp", "pck"),
        Network("cpm_mobilenetv2", "cpm_mobilenetv2_aic14_192x192.onnx", "lsp", "pck"),
        Network("simplebaseline_resnet50", "golden", "coco", ""),
        Network("hrnet_w32", "golden", "coco", ""),
    )
}


def _spec_of(name: str, path: Path, shared: Path) -> ModelSpec:
    """What the reference models' own list says; PP-TinyPose has a preset."""
    if name == "pptinypose":
        return pose_preset("pp-tinypose-256x192", name)
    listed: dict[str, Any] = json.loads((shared / "models" / "models.json").read_text())
    entry = listed[name]
    heatmaps = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    crops = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    points = {"name": entry["joints"], "keypoints": listed["_joint_sets"][entry["joints"]]}
    return ModelSpec.from_json(
        {
            "name": name,
            "input_hw": [size.dim_value for size in crops[2:]],
            "heatmap_hw": [size.dim_value for size in heatmaps[2:]],
            "skeleton": "coco17" if entry["joints"] == "coco17" else points,
            "color_order": entry["order"],
            "mean": [value / entry["scale"] for value in entry["mean"]],
            "std": [value / entry["scale"] for value in entry["std"]],
            "box_padding": entry["pad"],
        }
    )


def one_pass(path: Path) -> ModelSpec:
    """The spec, of a network that is run twice without its second pass: the comparison is of one."""
    return read_passport(path).spec.changed(refine=None)
