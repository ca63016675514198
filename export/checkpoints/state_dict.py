"""Any published checkpoint -> a state dict with the network's own names, and where it came from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.fingerprint import Family, recognize
from edgepose.export.checkpoints.keras import is_keras_file, read_keras_weights
from edgepose.files import why_no_file
from edgepose.model.first_bytes import told_by_first_bytes

ORIGINS = ("original", "mmpose_v0", "mmpose_v1", "keras")

_WRAPPERS = ("module.", "model.")  # DataParallel, Lightning and the like; may be nested
COUNTER = ".num_batches_tracked"  # training's business; files before PyTorch 0.4.1 lack it
_HOLDERS = ("state_dict", "model", "model_pos", "network")  # the last two: VideoPose3D's and 3DMPPE PoseNet's
_OTHER_KINDS = {  # suffix -> what such a file is, and what to do with it
    ".onnx": "an ONNX graph, not a checkpoint: edgepose import takes it",
    ".keras": "an archive of Keras: save its weights, model.save_weights('NAME.weights.h5'), and give those",
}
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)

StateDict = dict[str, torch.Tensor]


def read_checkpoint(path: Path) -> tuple[StateDict, str]:
    """Read a checkpoint in whatever container it was published.

    Known containers: a plain state dict, {'state_dict'}, {'meta', 'state_dict'}, training checkpoints
    {'epoch', 'model', 'state_dict', 'perf', 'optimizer'}, VideoPose3D's {'model_pos'} and 3DMPPE PoseNet's
    {'network'}, all with or without `module.` prefixes. safetensors' files hold a plain state dict. Keras's files go
    to `keras_weights`. Nothing in the file is executed.

    Returns:
        float32 tensors under the names the original implementation gave them, and one of `ORIGINS`: "original"
        where the file already had those names, "mmpose_v0" and "mmpose_v1" where it had mmpose's, "keras".

    Raises:
        CheckpointError: the file is missing or damaged, would run code, holds no state dict, or a value is NaN or
            complex, sparse or quantised.
    """
    if is_keras_file(path):
        return read_keras_weights(path), "keras"
    content = _load_safetensors(path) if Path(path).suffix.lower() == ".safetensors" else _load(path)
    state = _find_state_dict(content, path)
    while prefix := next((prefix for prefix in _WRAPPERS if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    origin = _origin(state, content.get("meta"))
    if origin != "original":
        state = _without_mmpose_prefixes(state)
    for key, tensor in state.items():
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"  # the device "meta" has no values
        if not (dense and (tensor.is_floating_point() or tensor.dtype in _INTEGERS)):
            kind = f"{tensor.layout} {tensor.dtype} on {tensor.device}".replace("torch.", "")
            raise CheckpointError(f"{path}: {key} is {kind}; wanted plain numbers: save it dense, as float32")
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinite values; the training it came from went wrong")
    return state, origin


def training_config(path: Path) -> str:
    """The configuration of the training, as mmpose writes it beside the weights; empty if there is none.

    It is `config` of v0's `meta` (tools/train.py) and `cfg` of v1's (mmengine's CheckpointHook).

    Raises:
        CheckpointError: as of `read_checkpoint`.
    """
    if is_keras_file(path) or Path(path).suffix.lower() == ".safetensors":
        return ""
    meta = _load(path).get("meta")
    texts = [meta.get(key) for key in ("config", "cfg")] if isinstance(meta, Mapping) else []
    return "\n".join(text for text in texts if isinstance(text, str))


def load_into(network: nn.Module, state: StateDict, *, path: Path, label: str) -> None:
    """Put a state dict into the network it belongs to.

    Args:
        path, label: the checkpoint and the network, for the message.

    Raises:
        CheckpointError: keys are missing, unexpected or of another shape; the first of each is named.
    """
    if clash := _clash(network, state):
        advice = _advice(recognize(state), recognize(network.state_dict()))
        raise CheckpointError(f"{path} is not a checkpoint of {label}: {clash}; {advice}")
    network.load_state_dict(state, strict=False)  # strict but for the counters


def fits(network: nn.Module, state: StateDict) -> bool:
    """Whether the state dict has the network's keys and shapes."""
    return not _clash(network, state)


def _advice(found: Family | None, wanted: Family | None) -> str:
    if found is None:
        return "edgepose models lists the networks"
    if found == wanted:
        return f"else it is {found}: save or fetch it again, with that network's keys and no others"
    return f"it looks like {found}: leave out --model, --dataset and --style, and it is taken as that"


def _clash(network: nn.Module, state: StateDict) -> str:
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items() if not key.endswith(COUNTER)}
    found = {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith(COUNTER)}
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    reshaped = [key for key in wanted if key in found and wanted[key] != found[key]]
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys missing (first: {missing[0]})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected (first: {unexpected[0]})")
    if reshaped:
        first = reshaped[0]
        parts.append(f"{len(reshaped)} of another shape (first: {first} is {found[first]}, wanted {wanted[first]})")
    return ", ".join(parts)


def _load(path: Path) -> Mapping[str, Any]:
    _check_is_file(path)
    if other := _OTHER_KINDS.get(Path(path).suffix.lower()):
        raise CheckpointError(f"{path} is {other}")
    try:
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is a checkpoint's age
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # damaged bytes fail anywhere in the unpickler, with any type
        forbidden = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        if forbidden and "Weights only load failed" in str(error):
            raise CheckpointError(
                f"{path} holds {forbidden[1]}, a Python object whose loading could run code; it was not loaded. "
                f"Save only the state_dict"
            ) from error
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript program, whose loading could run code; it was not loaded. "
                f"Save its state_dict: torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)"
            ) from error
        if "Unsupported operand 149" in str(error):  # FRAME, with which every pickle of protocol 4 or 5 begins
            raise CheckpointError(
                f"{path} is a pickle of protocol 4 or 5, whose loading could run code; it was not loaded. "
                f"Save only the state_dict, with torch.save and its default protocol"
            ) from error
        cause = told_by_first_bytes(path) or f"or it is damaged ({type(error).__name__}); fetch it again"
        raise CheckpointError(f"{path} is not a PyTorch checkpoint, {cause}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state_dict")
    return content


def _load_safetensors(path: Path) -> Mapping[str, Any]:
    _check_is_file(path)
    if known := told_by_first_bytes(path):
        raise CheckpointError(f"{path} is not a safetensors file, {known}")
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f"{path} needs the package safetensors, which is not installed: pip install 'edgepose[workstation]'"
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or it is damaged ({error}); fetch it again"
        ) from error


def _check_is_file(path: Path) -> None:
    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a folder; wanted: the checkpoint file in it")
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: {why_no_file(path)}")


def _numpy_globals() -> list[Any]:
    """What numpy scalars and arrays unpickle through: training checkpoints hold their best result as one, mmpose
    v1's `meta` the data set's colours. The names are numpy 1's, in which those files were written, and numpy 2's.
    """
    multiarray = import_module("numpy.core.multiarray" if np.__version__ < "2" else "numpy._core.multiarray")
    named = [
        (getattr(multiarray, name), f"{module}.{name}")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    ]
    kinds = (type(np.dtype(name)) for name in ("f8", "f4", "i8", "i4", "u4", "u1", "?"))  # np.dtypes came with 1.25
    return [*named, np.ndarray, np.dtype, *kinds, *_RANDOM_STATES]


class _Ignored:
    """Stands for what a file holds besides weights, without making it."""

    def __init__(self, *parts: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# VideoPose3D keeps its training's random state beside the weights; it is pickled by these names.
_RANDOM_STATES = [
    (_Ignored, f"numpy.random.{name}")
    for name in (
        "__RandomState_ctor",
        "_pickle.__randomstate_ctor",
        "_pickle.__bit_generator_ctor",
        "_mt19937.MT19937",
    )
]


def _find_state_dict(content: Mapping[str, Any], path: Path) -> StateDict:
    for holder in (*(content.get(name) for name in _HOLDERS), content):
        if isinstance(holder, Mapping) and holder and all(isinstance(key, str) for key in holder):
            tensors = {key: value for key, value in holder.items() if isinstance(value, torch.Tensor)}
            if tensors and (holder is not content or len(tensors) == len(holder)):
                return tensors
    raise CheckpointError(
        f"{path} holds no state_dict: its entries are {', '.join(map(str, list(content)[:6])) or 'none'}; "
        f"save the network's alone: torch.save(network.state_dict(), FILE)"
    )


def _origin(state: StateDict, meta: Any) -> str:
    if not any(key.startswith("backbone.") for key in state):
        return "original"
    written_by_v0 = isinstance(meta, Mapping) and "mmcv_version" in meta and "mmengine_version" not in meta
    if written_by_v0 or any(key.startswith("keypoint_head.") for key in state):
        return "mmpose_v0"
    return "mmpose_v1"


def _without_mmpose_prefixes(state: StateDict) -> StateDict:
    """mmpose's names are the original ones behind `backbone.` and `head.` (v0: `keypoint_head.`), but VideoPose3D's.

    The second network of a semi-supervised VideoPose3D, for its path through space, is left out.
    """
    plain = {
        re.sub(r"^(backbone|head|keypoint_head)\.", "", key): tensor
        for key, tensor in state.items()
        if not key.startswith(("data_preprocessor.", "traj_"))
    }
    if "expand_conv.conv.weight" not in plain:
        return plain
    return {_videopose_name(key): tensor for key, tensor in plain.items()}


def _videopose_name(key: str) -> str:
    """VideoPose3D's own name for one of mmpose's."""
    key = re.sub(r"^expand_conv\.(conv|bn)\.", r"expand_\1.", re.sub(r"^conv\.", "shrink.", key))
    if layer := re.match(r"tcn_blocks\.(\d+)\.conv([12])\.0\.(conv|bn)\.(.+)", key):
        block, half, kind, rest = layer.groups()
        return f"layers_{kind}.{2 * int(block) + int(half) - 1}.{rest}"
    return key
