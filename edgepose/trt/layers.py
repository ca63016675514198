"""The layers of a TensorRT plan and their precisions, as its engine inspector tells them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from edgepose.errors import BackendError, ModelFileError
from edgepose.machine.gpu import find_gpu
from edgepose.model.passport import Passport
from edgepose.trt.log import messages_of
from edgepose.trt.plan import check_engine, open_plan
from edgepose.trt.versions import load_runner


@dataclass(frozen=True)
class Layer:
    """One layer of a plan: its name, TensorRT's kind of it, and the precision of what it gives ("INT8")."""

    name: str
    kind: str
    precision: str


def read_layers(plan_path: Path, passport: Passport) -> list[Layer]:
    """The layers of a plan, as TensorRT fused them. Needs the GPU that the plan was built for.

    Raises:
        EngineMismatchError: it was built for another GPU or TensorRT.
        BackendError: there is no GPU or no TensorRT here.
        ModelFileError: TensorRT cannot read the plan, or tells nothing of it.
    """
    gpu = find_gpu()
    if gpu is None:
        raise BackendError("TensorRT reads a plan on a GPU only, and no NVIDIA GPU or driver was found")
    trt = load_runner(plan_path, passport.plan)
    check_engine(plan_path, passport, gpu, trt)
    runtime, engine = open_plan(trt, plan_path, passport)
    with messages_of(trt) as log:
        information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        del engine, runtime  # in this order
    if not information:
        raise ModelFileError(f"TensorRT tells nothing of {plan_path}: {log.last_errors()}")
    return parse_layers(information)


_PRECISIONS = {"float": "FP32", "half": "FP16"}


def parse_layers(information: str) -> list[Layer]:
    """What TensorRT's engine inspector says of a plan, as JSON, in the form of TensorRT 10 or 11."""
    layers = []
    for layer in json.loads(information)["Layers"]:
        if isinstance(layer, str):  # of a plan built elsewhere, with names only
            layers.append(Layer(layer, "", ""))
            continue
        said = [output.get("DataType") or output.get("Format/Datatype", "") for output in layer.get("Outputs", [])]
        words = re.findall(r"\b(?:[BF]P\d+|BF16|U?Int\d+|Float|Half|Bool)\b", " ".join(said), re.IGNORECASE)
        precision = _PRECISIONS.get(words[0].lower(), words[0].upper()) if words else ""
        layers.append(Layer(layer.get("Name", ""), layer.get("LayerType", ""), precision))
    return layers
