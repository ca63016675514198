"""The layers of a TensorRT plan and their precisions, as its engine inspector tells them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from edgepose.errors import BuildError
from edgepose.machine.gpu import find_gpu
from edgepose.model.passport import Passport
from edgepose.trt.build import load_tensorrt
from edgepose.trt.log import logger_of, messages_of


@dataclass(frozen=True)
class Layer:
    """One layer of a plan: its name, TensorRT's kind of it, and the precision of what it gives ("INT8")."""

    name: str
    kind: str
    precision: str


def read_layers(plan_path: Path, passport: Passport) -> list[Layer]:
    """The layers of a plan, as TensorRT fused them. Needs the GPU that the plan was built for.

    Raises:
        BuildError: there is no GPU or no TensorRT here, or it cannot read the plan.
    """
    info = passport.plan
    trt = load_tensorrt(info.runtime)
    if find_gpu() is None:
        raise BuildError("TensorRT reads a plan on a GPU only, and no NVIDIA GPU or driver was found")
    with messages_of(trt) as log:
        try:
            runtime = trt.Runtime(logger_of(trt))  # must outlive the engine
            if info.version_compatible:
                runtime.engine_host_code_allowed = True  # such a plan brings its own small runtime along
            if info.dla is not None:
                runtime.DLA_core = info.dla
            engine = runtime.deserialize_cuda_engine(plan_path.read_bytes())
        except (TypeError, RuntimeError):  # how the bindings say null
            engine = None
        if engine is None:
            raise BuildError(f"TensorRT could not read {plan_path}: {log.last_errors()}")
        information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        if not information:
            raise BuildError(f"TensorRT tells nothing of {plan_path}: {log.last_errors()}")
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
