"""Weights of the Keras SimpleBaseline -> a state dict of networks/keras_simple_baseline.py, without TensorFlow.

Three layouts are read:

- `.h5` of Keras 2, and of `model.save("x.h5")` with Keras 3: groups named after layers, in their order;
- `.weights.h5` of Keras 3 and of TensorFlow 2.12 to 2.15: groups named after classes and counted, `conv2d_7/vars/0`;
- `.npz`: arrays named after variables, `conv1_conv/kernel:0`, or `arr_0`, `arr_1`, ... in the order of `get_weights()`.

The trunk's layers are found by the names that `tf.keras.applications` gives them, and where the file has no names by
their order; the head's, whose names are the author's, by their order: three transposed convolutions, three
BatchNormalizations, and one 1x1 convolution. The models around them (`resnet50`, `sequential`) do not matter.
The door to h5py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepose.errors import CheckpointError, EdgeposeError, MissingPackageError
from edgepose.files import why_no_file
from edgepose.model.first_bytes import told_by_first_bytes

BLOCKS = (3, 4, 6, 3)  # of ResNet-50
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TO_TORCH = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_CONVOLUTION = ("kernel", "bias")
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_HEAD = {"Conv2DTranspose": 3, "BatchNormalization": 3, "1x1 Conv2D": 1}

Layer = dict[str, np.ndarray]  # variable -> value, as Keras has it
Layers = dict[str, Layer]  # in the network's order


def is_keras_file(path: Path) -> bool:
    """Whether a file is HDF5 or says that it is, or is an `.npz`."""
    if path.suffix.lower() in (".h5", ".hdf5", ".npz"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def read_keras_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a Keras file's weights under PyTorch's names, in PyTorch's layout, as float32.

    Raises:
        CheckpointError: the file is missing or damaged, is of another architecture, or a value is NaN.
        MissingPackageError: h5py is not installed.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {why_no_file(path)}")
    try:
        read = _read_npz(path) if path.suffix.lower() == ".npz" else _read_hdf5(path)
        layers = {
            name: {variable: np.asarray(value, np.float32) for variable, value in layer.items()}
            for name, layer in read.items()
        }
    except (EdgeposeError, PermissionError):
        raise
    except Exception as error:  # damaged bytes fail anywhere, with any type
        cause = told_by_first_bytes(path) or f"or it is damaged ({type(error).__name__}); save or fetch it again"
        raise CheckpointError(f"{path} is not a Keras weight file, {cause}") from error
    state = {}
    for module, name, layer in _match(layers, path):
        for variable, value in layer.items():
            if not np.isfinite(value).all():
                raise CheckpointError(
                    f"{path}: {name}/{variable} holds NaN or infinite values; the training it came from went wrong"
                )
            if value.ndim == 4:  # HWIO -> OIHW; of a transposed convolution, HWOI -> IOHW
                value = value.transpose(3, 2, 0, 1)
            state[f"{module}.{_TO_TORCH[variable]}"] = torch.from_numpy(np.ascontiguousarray(value))
    return state


def trunk() -> dict[str, str]:
    """The trunk's layers with weights: Keras's name -> PyTorch's.

    Convolutions among themselves, and norms among themselves, are in the order of the Keras model's layers: a block's
    shortcut comes before the last convolution, with which it is added.
    """
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    for stage, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            for part in (1, 2, 0, 3) if block == 0 else (1, 2, 3):
                ours = f"layer{stage}.{block}"
                theirs = f"conv{stage + 1}_block{block + 1}_{part}"
                names[f"{theirs}_conv"] = f"{ours}.conv{part}" if part else f"{ours}.downsample.0"
                names[f"{theirs}_bn"] = f"{ours}.bn{part}" if part else f"{ours}.downsample.1"
    return names


def _match(layers: Layers, path: Path) -> Iterator[tuple[str, str, Layer]]:
    """Each layer as (PyTorch's name, the file's name, variables)."""
    in_trunk = _find_trunk(layers)
    head: dict[str, list[str]] = {"Conv2DTranspose": [], "BatchNormalization": [], "1x1 Conv2D": [], "": []}
    for name, layer in layers.items():
        if name not in in_trunk or not _kind(layer):
            head[_kind(layer)].append(name)
    missing = [name for name in trunk() if name not in in_trunk.values()]
    others = [name for names in head.values() for name in names]
    complaints = []
    if missing:
        beside = f", {len(others)} unexpected (first: {others[0]})" if others else ""
        complaints = [f"{len(missing)} layers of ResNet-50 missing (first: {missing[0]}){beside}"]
    elif head[""]:
        complaints = [f"{len(head[''])} layers of another kind (first: {head[''][0]})"]
    else:
        for kind, count in _HEAD.items():
            if len(head[kind]) != count:
                found = f" (first: {head[kind][0]})" if head[kind] else ""
                complaints.append(f"{len(head[kind])} {kind} behind it{found}, wanted {count}")
    if complaints:
        raise CheckpointError(
            f"{path} is not a Keras SimpleBaseline, which is ResNet-50 of tf.keras.applications and a head of 3 "
            f"Conv2DTranspose with BatchNormalization and a 1x1 Conv2D: {', '.join(complaints)}"
        )
    for name, keras_name in in_trunk.items():
        yield trunk()[keras_name], name, layers[name]
    for index, name in enumerate(head["Conv2DTranspose"]):
        yield f"deconv_layers.{3 * index}", name, layers[name]
    for index, name in enumerate(head["BatchNormalization"]):
        yield f"deconv_layers.{3 * index + 1}", name, layers[name]
    for name in head["1x1 Conv2D"]:
        yield "final_layer", name, layers[name]


def _find_trunk(layers: Layers) -> dict[str, str]:
    """The trunk's layers: the file's name -> `tf.keras.applications`' name."""
    wanted = trunk()
    by_name = {name: own for name in layers if (own := name.rsplit("/", 1)[-1]) in wanted}
    if by_name:
        return by_name
    norms = [name for name, layer in layers.items() if _kind(layer) == "BatchNormalization"]
    convolutions = [name for name, layer in layers.items() if _kind(layer) and name not in norms]
    by_order = list(zip(convolutions, (name for name in wanted if name.endswith("_conv")), strict=False))
    return dict([*by_order, *zip(norms, (name for name in wanted if name.endswith("_bn")), strict=False)])


def _kind(layer: Layer) -> str:
    """What a layer of the head would be with these variables; empty if it has no place in the network."""
    if layer.keys() <= set(_NORM):
        return "BatchNormalization"
    if layer.keys() <= set(_CONVOLUTION) and "kernel" in layer and layer["kernel"].ndim == 4:
        return "1x1 Conv2D" if layer["kernel"].shape[:2] == (1, 1) else "Conv2DTranspose"
    return ""


def _read_npz(path: Path) -> Layers:
    with np.load(path, allow_pickle=False) as arrays:
        if all(re.fullmatch(r"arr_\d+", name) for name in arrays.files):
            return _by_order([arrays[f"arr_{index}"] for index in range(len(arrays.files))])
        return _by_name((name, arrays[name]) for name in arrays.files)


def _read_hdf5(path: Path) -> Layers:
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError("h5py", "workstation") from error

    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            return _read_counted(file)
        groups = [root[name] for name in _names(root, "layer_names")]
        return _by_name((name, group[name][()]) for group in groups for name in _names(group, "weight_names"))


def _names(group: Any, attribute: str) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]


def _by_name(variables: Iterator[tuple[str, np.ndarray]]) -> Layers:
    """`sequential/conv2d_transpose/kernel:0` is the kernel of `sequential/conv2d_transpose`."""
    layers: Layers = {}
    for name, value in variables:
        layer, _, variable = name.rpartition("/")
        layers.setdefault(layer, {})[variable.partition(":")[0]] = value
    return layers


def _by_order(arrays: list[np.ndarray]) -> Layers:
    """A convolution is a kernel and a bias, a norm four vectors."""
    layers: Layers = {}
    while arrays:
        kind = _CONVOLUTION if arrays[0].ndim == 4 else _NORM
        layers[f"layer {len(layers)}"] = dict(zip(kind, arrays, strict=False))
        arrays = arrays[len(kind) :]
    return layers


def _read_counted(file: Any) -> Layers:
    """The layers of `.weights.h5`; HDF5 lists groups by the alphabet, so they are put in the order of their counts."""
    groups: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: groups.append((name, item)) if name.endswith("/vars") and len(item) else None)
    groups = [(name, group) for name, group in groups if not name.startswith(("optimizer", "metrics", "_metrics"))]
    size: dict[str, int] = {}  # of a model inside the model: the trunk has the most layers, then the deconvolutions
    for name, _ in groups:
        size[_model_of(name)] = size.get(_model_of(name), 0) + 1
    groups.sort(key=lambda entry: (-size[_model_of(entry[0])], _by_count(entry[0])))
    layers: Layers = {}
    for path, group in groups:
        values = [group[str(index)][()] for index in range(len(group))]
        kind = _CONVOLUTION if values[0].ndim == 4 else _NORM
        own_name = str(group.attrs.get("name", ""))  # older files lack it
        name = own_name if own_name in trunk() else path.removesuffix("/vars")
        named = dict(zip(kind, values, strict=False))
        layers[name] = named if len(values) == len(kind) else {str(index): v for index, v in enumerate(values)}
    return layers


def _model_of(path: str) -> str:
    return path.rsplit("/", 2)[0]


def _by_count(path: str) -> list[tuple[str, int]]:
    """Sorts conv2d_2 before conv2d_10, and conv2d before conv2d_1."""
    parts = [re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in path.split("/")]
    return [(part[1], int(part[2] or 0)) for part in parts if part]
