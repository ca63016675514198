"""Keras's SimpleBaseline: files of every layout against a numpy model of the Keras network, NHWC throughout."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from edgepose.errors import CheckpointError, MissingPackageError
from edgepose.export.checkpoints.fingerprint import recognize
from edgepose.export.checkpoints.keras import is_keras_file, read_keras_weights
from edgepose.export.checkpoints.state_dict import load_into, read_checkpoint
from edgepose.export.networks.keras_simple_baseline import KerasSimpleBaseline, call_nhwc
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.export.pipeline import export_model
from edgepose.export.zoo.find import find_model
from edgepose.model.passport import read_passport
from tests.export.families import relative_difference

PLANES, DECONV_FILTERS, NUM_KEYPOINTS = (2, 3, 4, 5), 3, 17
HEAD = ("conv2d_transpose", "batch_normalization", "conv2d_transpose_1", "batch_normalization_1",
        "conv2d_transpose_2", "batch_normalization_2", "conv2d")  # fmt: skip

Layers = dict[str, dict[str, np.ndarray]]


def trunk_names() -> list[str]:
    """ResNet-50's layers with weights as `model.summary()` lists them."""
    names = ["conv1_conv", "conv1_bn"]
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, blocks + 1):
            block_name = f"conv{stage}_block{block}"
            first = ["1_conv", "1_bn", "2_conv", "2_bn"]
            last = ["0_conv", "3_conv", "0_bn", "3_bn"] if block == 1 else ["3_conv", "3_bn"]
            names += [f"{block_name}_{layer}" for layer in [*first, *last]]
    return names


def make_layers(num_keypoints: int = NUM_KEYPOINTS) -> Layers:
    """A narrow network's variables by Keras's names, in its layout and order of layers."""
    rng = np.random.default_rng(0)

    def convolution(side: int, inputs: int, outputs: int, *, transposed: bool = False) -> dict[str, np.ndarray]:
        shape = (side, side, outputs, inputs) if transposed else (side, side, inputs, outputs)
        kernel = rng.normal(0, (2 / (side * side * inputs)) ** 0.5, shape)
        return {"kernel": kernel.astype(np.float32), "bias": rng.normal(0, 0.3, outputs).astype(np.float32)}

    def norm(channels: int) -> dict[str, np.ndarray]:
        values = (rng.uniform(0.5, 1.5, channels), rng.normal(0, 0.3, channels), rng.normal(0, 0.3, channels))
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return dict(zip(names, map(np.float32, (*values, rng.uniform(0.5, 1.5, channels))), strict=True))

    layers, channels = {}, PLANES[0]
    for name in trunk_names():
        stage, part = int(name[4]), name.split("_")[-2]
        planes = PLANES[max(stage - 2, 0)]
        outputs = planes if part in ("conv1", "1", "2") else 4 * planes
        if name == "conv1_conv":
            layers[name] = convolution(7, 3, outputs)
        elif name.endswith("_bn"):
            layers[name] = norm(outputs)
        else:
            inputs = channels if part in ("0", "1") else planes
            layers[name] = convolution(3 if part == "2" else 1, inputs, outputs)
            channels = outputs if part == "3" else channels
    for name in HEAD[:-1]:
        transposed = name.startswith("conv2d_transpose")
        layers[name] = convolution(4, channels, DECONV_FILTERS, transposed=True) if transposed else norm(DECONV_FILTERS)
        channels = DECONV_FILTERS
    return {**layers, HEAD[-1]: convolution(1, channels, num_keypoints)}


# The Keras network, written from the definition of each of its layers


def conv2d(x: np.ndarray, layer: dict[str, np.ndarray], stride: int = 1) -> np.ndarray:
    """Conv2D, 'valid'."""
    side = layer["kernel"].shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nyxcij,ijco->nyxo", windows, layer["kernel"]) + layer["bias"]


def conv2d_transpose_same(x: np.ndarray, layer: dict[str, np.ndarray], stride: int = 2) -> np.ndarray:
    """Every input pixel adds its kernel to the output; 'same' cuts what goes beyond stride times the input, half of it
    on each side.
    """
    n, height, width, _ = x.shape
    kernel = layer["kernel"]  # (k, k, out, in)
    side, excess = kernel.shape[0], kernel.shape[0] - stride
    full = np.zeros((n, height * stride + excess, width * stride + excess, kernel.shape[2]), np.float32)
    for y in range(height):
        for column in range(width):
            at = (slice(None), slice(y * stride, y * stride + side), slice(column * stride, column * stride + side))
            full[at] += np.einsum("nc,ijoc->nijo", x[:, y, column], kernel)
    before = excess // 2
    return full[:, before : before + height * stride, before : before + width * stride] + layer["bias"]


def batch_normalization(x: np.ndarray, layer: dict[str, np.ndarray], epsilon: float) -> np.ndarray:
    deviation = np.sqrt(layer["moving_variance"] + epsilon)
    return (x - layer["moving_mean"]) / deviation * layer["gamma"] + layer["beta"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def zero_padding(x: np.ndarray, pixels: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))


def keras_network(images: np.ndarray, layers: Layers) -> np.ndarray:
    def conv_bn(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        return batch_normalization(conv2d(x, layers[f"{name}_conv"], stride), layers[f"{name}_bn"], 1.001e-5)

    x = relu(conv_bn(zero_padding(images, 3), "conv1", stride=2))
    windows = np.lib.stride_tricks.sliding_window_view(zero_padding(x, 1), (3, 3), axis=(1, 2))
    x = windows[:, ::2, ::2].max(axis=(-2, -1))
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, blocks + 1):
            name, stride = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
            shortcut = conv_bn(x, f"{name}_0", stride) if block == 1 else x
            x = relu(conv_bn(x, f"{name}_1", stride))
            x = relu(conv_bn(zero_padding(x, 1), f"{name}_2"))
            x = relu(conv_bn(x, f"{name}_3") + shortcut)
    for deconvolution, norm in zip(HEAD[0:6:2], HEAD[1:6:2], strict=True):
        x = relu(batch_normalization(conv2d_transpose_same(x, layers[deconvolution]), layers[norm], 1e-3))
    return conv2d(x, layers[HEAD[-1]])


# Its files


def write_named(path: Path, layers: Layers, *, root: str = "", nested: bool = False) -> None:
    """Keras 2's layout. A model inside the model lists its trainable variables first."""
    models = {name: {name: layer} for name, layer in layers.items()}
    if nested:
        trunk = {name: layers[name] for name in trunk_names()}
        deconvolutions = {f"up/{name}": layers[name] for name in HEAD[:-1]}
        models = {"resnet50": trunk, "up": deconvolutions, "heatmaps": {"heatmaps": layers[HEAD[-1]]}}
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        group.attrs["layer_names"] = [name.encode() for name in ["input_1", *models]]
        group.create_group("input_1").attrs["weight_names"] = []
        for model, members in models.items():
            variables = {f"{name}/{key}:0": value for name, layer in members.items() for key, value in layer.items()}
            ordered = sorted(variables, key=lambda name: "moving" in name)
            group.create_group(model).attrs["weight_names"] = [name.encode() for name in ordered]
            for name, value in variables.items():
                group[model][name] = value
        if root:
            file["optimizer_weights/adam/conv1_conv/kernel:0"] = np.zeros((7, 7, 3, 64))


def write_counted(path: Path, layers: Layers, *, holder: str = "layers", names: bool, nested: bool = False) -> None:
    """Keras 3's layout: layers go by their class, counted within their model."""
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        file["optimizer/vars/0"] = np.zeros((3, 3, 3, 3))
        file["metrics/mean_metric_wrapper/vars/0"] = 1.0
        for name, layer in layers.items():
            own = {"conv": "conv2d", "bn": "batch_normalization"}
            kind = re.sub(r"_\d$", "", name) if name in HEAD else own[name.rsplit("_", 1)[1]]
            model = f"{holder}/functional/{holder}" if nested and name not in HEAD else holder
            model = f"{holder}/sequential/{holder}" if nested and name in HEAD[:-1] else model
            count = counts[model + kind] = counts.get(model + kind, -1) + 1
            group = file.create_group(f"{model}/{kind}_{count}" if count else f"{model}/{kind}").create_group("vars")
            if names:
                group.attrs["name"] = name
            for index, value in enumerate(layer.values()):
                group[str(index)] = value


def write_subclass(path: Path, layers: Layers) -> None:
    """Keras 3's layout of a model of one's own class: groups named after its attributes, lists among them."""
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for name, layer in layers.items():
            kind = (
                re.sub(r"_\d$", "", name)
                if name in HEAD
                else {"conv": "conv2d", "bn": "batch_normalization"}[name.rsplit("_", 1)[1]]
            )
            holder = (
                {"conv2d_transpose": "deconvs", "batch_normalization": "layers"}[kind]
                if name in HEAD[:-1]
                else "backbone/layers"
            )
            count = counts[holder + kind] = counts.get(holder + kind, -1) + 1
            place = "final" if name == HEAD[-1] else f"{holder}/{kind}_{count}" if count else f"{holder}/{kind}"
            group = file.create_group(place).create_group("vars")
            group.attrs["name"] = name
            for index, value in enumerate(layer.values()):
                group[str(index)] = value


def write_npz(path: Path, layers: Layers, *, names: bool) -> None:
    arrays = {f"{name}/{key}:0": value for name, layer in layers.items() for key, value in layer.items()}
    if names:
        np.savez(path, **arrays)
    else:
        np.savez(path, *arrays.values())


WRITERS = {
    "weights.h5": lambda path, layers: write_named(path, layers),
    "model.h5": lambda path, layers: write_named(path, layers, root="model_weights"),
    "nested.h5": lambda path, layers: write_named(path, layers, nested=True),
    "keras3.weights.h5": lambda path, layers: write_counted(path, layers, names=True),
    "keras3_nested.weights.h5": lambda path, layers: write_counted(path, layers, names=True, nested=True),
    "unnamed.weights.h5": lambda path, layers: write_counted(path, layers, names=False),
    "unnamed_nested.weights.h5": lambda path, layers: write_counted(path, layers, names=False, nested=True),
    "keras3_subclass.weights.h5": write_subclass,
    "tf2_13.weights.h5": lambda path, layers: write_counted(
        path, layers, names=False, holder="_layer_checkpoint_dependencies"
    ),
    "without_suffix": lambda path, layers: write_named(path, layers),
    "named.npz": lambda path, layers: write_npz(path, layers, names=True),
    "get_weights.npz": lambda path, layers: write_npz(path, layers, names=False),
}  # fmt: skip


def make_network() -> KerasSimpleBaseline:
    return KerasSimpleBaseline(NUM_KEYPOINTS, planes=PLANES, deconv_filters=DECONV_FILTERS).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 64, 96, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(images: np.ndarray) -> np.ndarray:
    return keras_network(images, make_layers())


@pytest.mark.parametrize("file", WRITERS)
def test_computes_what_the_keras_network_does_from_every_layout(file, images, expected, tmp_path):
    path = tmp_path / file
    WRITERS[file](path, make_layers())
    network = make_network()

    state, origin = read_checkpoint(path)
    load_into(network, state, path=path, label="small")
    with torch.inference_mode():
        heatmaps = call_nhwc(network, torch.from_numpy(images)).numpy()

    assert origin == "keras"
    assert heatmaps.shape == (2, 16, 24, NUM_KEYPOINTS)
    assert relative_difference(heatmaps, expected) < 1e-5  # float32 through 57 layers


def test_a_transposed_convolution_of_same_padding_is_pytorchs_with_padding_1():
    rng = np.random.default_rng(2)
    x, kernel = np.float32(rng.normal(size=(1, 3, 2, 5))), np.float32(rng.normal(size=(4, 4, 6, 5)))
    layer = {"kernel": kernel, "bias": np.float32(rng.normal(size=6))}

    theirs = conv2d_transpose_same(x, layer)
    weight, bias = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), torch.from_numpy(layer["bias"])
    ours = torch.conv_transpose2d(torch.from_numpy(x).permute(0, 3, 1, 2), weight, bias, stride=2, padding=1)

    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), theirs, atol=1e-5)


def test_has_the_shapes_and_the_parameters_of_the_keras_network():
    network = KerasSimpleBaseline(17).eval()
    with torch.inference_mode():
        heatmaps = call_nhwc(network, torch.zeros(1, 256, 192, 3))
    trainable = {name: value.numel() for name, value in network.named_parameters()}
    statistics = {name: value.numel() for name, value in network.named_buffers() if "running" in name}
    both = trainable | statistics
    head = ("deconv_layers", "final_layer")

    assert heatmaps.shape == (1, 64, 48, 17)
    # what Keras's count_params() says of ResNet50(include_top=False) and of the whole
    assert sum(size for name, size in both.items() if not name.startswith(head)) == 23_587_712
    assert sum(size for name, size in statistics.items() if not name.startswith(head)) == 53_120
    assert sum(both.values()) == 34_081_681
    assert sum(trainable.values()) == find_model("simplebaseline_keras").params == 34_027_025


def test_exports_a_keras_file_with_the_pixels_it_was_trained_on(tmp_path):
    path = tmp_path / "pose.h5"
    write_named(path, make_layers())
    model = replace(find_model("simplebaseline_keras"), build=lambda style: make_network())

    exported = export_model(model, tmp_path, weights=str(path), style="caffe")
    spec = read_passport(exported.fp32).spec

    assert (spec.image.size_hw, spec.heatmaps.size_hw, spec.num_keypoints) == ((256, 192), (64, 48), 17)
    assert (spec.image.color_order, spec.image.mean, spec.image.std) == ("bgr", (103.939, 116.779, 123.68), (1, 1, 1))
    assert exported.fp32.name == "simplebaseline_keras_coco_256x192_caffe.onnx"
    assert exported.fp32_difference.px < 1e-2


@pytest.mark.parametrize(
    ("style", "lowest", "highest"),  # of a red pixel's channels, as Keras's preprocess_input gives them
    [
        ("torch", (-2.0357, -1.8044), 2.2489),
        ("caffe", (-103.939, -116.779), 131.32),
        ("tf", (-1, -1), 1),
    ],
)
def test_a_red_pixel_is_what_keras_makes_of_it(style, lowest, highest):
    model = find_model("simplebaseline_keras")
    spec = model.spec.changed(**model.recipes[style])
    red = np.array([0, 0, 255] if spec.image.color_order == "bgr" else [255, 0, 0])

    crops = (red - spec.image.mean) / spec.image.std

    others = (crops[0], crops[1]) if spec.image.color_order == "bgr" else (crops[1], crops[2])
    np.testing.assert_allclose((*others, crops[np.argmax(red)]), (*lowest, highest), atol=1e-4)


def test_a_keras_file_is_recognised(tmp_path):
    path = tmp_path / "pose.h5"
    write_named(path, make_layers())

    family = recognize(read_keras_weights(path))

    assert family is not None
    assert (family.name, family.channels) == ("simplebaseline_keras", 17)


def without(layers: Layers, *names: str) -> Layers:
    return {name: layer for name, layer in layers.items() if name not in names}


def with_nan(layers: Layers) -> Layers:
    bias = np.full_like(layers["conv3_block2_2_conv"]["bias"], np.nan)
    return {**layers, "conv3_block2_2_conv": {**layers["conv3_block2_2_conv"], "bias": bias}}


OTHERS = {
    "a layer missing": (
        lambda layers: without(layers, "conv4_block3_2_bn", "conv5_block1_0_conv"),
        r"2 layers of ResNet-50 missing \(first: conv4_block3_2_bn\)",
    ),
    "a trunk alone": (lambda layers: without(layers, *HEAD), r"0 Conv2DTranspose behind it, wanted 3.*0 1x1 Conv2D"),
    "a fourth deconvolution": (
        lambda layers: {**layers, "up4": layers[HEAD[2]]},
        r"4 Conv2DTranspose behind it \(first: conv2d_transpose\), wanted 3",
    ),
    "a classifier": (
        lambda layers: {**layers, "predictions": {"kernel": np.zeros((8, 10)), "bias": np.zeros(10)}},
        r"1 layers of another kind \(first: predictions\)",
    ),
    "a layer of another kind in the trunk": (
        lambda layers: {**layers, "conv2_block1_2_conv": {"depthwise_kernel": np.zeros((3, 3, 2, 1))}},
        r"1 layers of another kind \(first: conv2_block1_2_conv\)",
    ),
    "another network": (
        lambda layers: {"block1_conv1": layers["conv1_conv"], "block1_bn": layers["conv1_bn"]},
        r"104 layers of ResNet-50 missing",
    ),
    "NaN": (with_nan, r"conv3_block2_2_conv/bias holds NaN"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("file", ["model.h5", "named.npz"])
def test_refuses_another_architecture_in_one_line(file, other, tmp_path):
    change, message = OTHERS[other]
    path = tmp_path / file
    WRITERS[file](path, change(make_layers()))

    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)

    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_refuses_another_number_of_key_points(tmp_path):
    path = tmp_path / "pose.weights.h5"
    write_counted(path, make_layers(num_keypoints=16), names=True)

    with pytest.raises(CheckpointError, match=r"final_layer.weight is \(16, 3, 1, 1\), wanted \(17, 3, 1, 1\)"):
        load_into(make_network(), read_checkpoint(path)[0], path=path, label="simplebaseline_keras")


def test_neither_form_takes_the_others_file(tmp_path):
    path = tmp_path / "pose.h5"
    write_named(path, make_layers())
    torch_form = SimpleBaseline(50, 17, planes=PLANES, deconv_filters=DECONV_FILTERS)

    with pytest.raises(CheckpointError, match=r"56 unexpected \(first: conv1.bias\).*simplebaseline_keras"):
        load_into(torch_form, read_checkpoint(path)[0], path=path, label="simplebaseline_resnet50")
    with pytest.raises(CheckpointError, match=r"56 keys missing \(first: conv1.bias\)"):
        load_into(make_network(), torch_form.state_dict(), path=path, label="simplebaseline_keras")


@pytest.mark.parametrize("file", ["model.h5", "keras3.weights.h5", "without_suffix", "named.npz", "get_weights.npz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_refuses_a_truncated_file_in_one_line(file, share, tmp_path):
    path = tmp_path / file
    WRITERS[file](path, make_layers())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(CheckpointError, match="damaged") as caught:
        read_checkpoint(path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".npz"])
@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", np.random.default_rng(3).bytes(4096)])
def test_refuses_bytes_that_are_no_weights_in_one_line(suffix, content, tmp_path):
    path = tmp_path / f"pose{suffix}"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="damaged" if content else "it is empty"):
        read_checkpoint(path)


@pytest.mark.parametrize("write", [lambda path: h5py.File(path, "w").close(), lambda path: None])
def test_refuses_an_empty_or_absent_file(write, tmp_path):
    path = tmp_path / "pose.h5"
    write(path)

    with pytest.raises(CheckpointError, match=r"106 layers of ResNet-50 missing|no such file"):
        read_checkpoint(path)


def test_executes_nothing_of_an_npz(tmp_path):
    path = tmp_path / "pose.npz"
    np.savez(path, **{"conv1_conv/kernel:0": np.array([print], dtype=object)})  # a pickle

    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_names_the_extra_when_h5py_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "pose.h5"
    write_named(path, make_layers())
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(MissingPackageError, match=r"h5py.*edgepose\[workstation\]"):
        read_checkpoint(path)


def test_a_pytorch_checkpoint_is_no_keras_file(tmp_path):
    path = tmp_path / "pose.pth"
    torch.save({"weight": torch.zeros(1)}, path)

    assert not is_keras_file(path)
    assert not is_keras_file(tmp_path / "absent.pth")
