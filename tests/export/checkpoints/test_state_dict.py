from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.state_dict import load_into, read_checkpoint
from edgepose.export.networks.simple_baseline import SimpleBaseline


def make_network(depth: int = 18, num_keypoints: int = 2) -> SimpleBaseline:
    torch.manual_seed(0)
    return SimpleBaseline(depth, num_keypoints, planes=(1, 1, 1, 1), deconv_filters=2).eval()


def original() -> OrderedDict[str, torch.Tensor]:
    return make_network().state_dict()


def mmpose(state, head):
    heads = ("deconv_layers.", "final_layer.")
    return OrderedDict(
        (f"{head if key.startswith(heads) else 'backbone'}.{key}", value) for key, value in state.items()
    )


def prefixed(state, prefix):
    return OrderedDict((prefix + key, value) for key, value in state.items())


META_V1 = {"mmengine_version": "0.4", "dataset_meta": {"colors": np.zeros((2, 3), np.uint8), "sigmas": [0.1]}}

CONTAINERS = {
    "plain": lambda state: state,
    "wrapped": lambda state: {"state_dict": state},
    "DataParallel": lambda state: prefixed(state, "module."),
    "wrapped twice": lambda state: {"state_dict": prefixed(state, "model.module.")},
    "training checkpoint": lambda state: {
        "epoch": 140,
        "model": "pose_resnet",
        "state_dict": prefixed(state, "module."),
        "perf": np.float64(0.704),
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-3}]},
    },
    "model as a dict": lambda state: {"model": state, "epoch": 3},
    "without counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "mmpose v1": lambda state: {"meta": META_V1, "state_dict": mmpose(state, "head")},
    "mmpose v1, preprocessor": lambda state: {**mmpose(state, "head"), "data_preprocessor.mean": torch.zeros(3)},
    "mmpose v0": lambda state: {"meta": {"mmcv_version": "1.0"}, "state_dict": mmpose(state, "keypoint_head")},
    "half precision": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}
ORIGIN = {"mmpose v1": "mmpose_v1", "mmpose v1, preprocessor": "mmpose_v1", "mmpose v0": "mmpose_v0"}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_reads_every_published_container(container, zipped, tmp_path):
    path = tmp_path / "weights.pth.tar"
    torch.save(CONTAINERS[container](original()), path, _use_new_zipfile_serialization=zipped)
    network = SimpleBaseline(18, 2, planes=(1, 1, 1, 1), deconv_filters=2)
    network.load_state_dict({key: torch.full_like(value, 7) for key, value in network.state_dict().items()})

    state, origin = read_checkpoint(path)
    load_into(network, state, path=path, label="small")

    assert origin == ORIGIN.get(container, "original")
    for key, value in original().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(network.state_dict()[key], value, rtol=1e-3, atol=1e-4)  # as exact as float16


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_reads_what_either_numpy_wrote(module, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": original(), "perf": np.float64(0.7)}, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    name = next(name for name in (b"numpy.core.multiarray", b"numpy._core.multiarray") if name in written)
    path.write_bytes(written.replace(name, module.encode()))

    state, _ = read_checkpoint(path)

    assert "final_layer.bias" in state


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_refuses_a_pickle_that_would_run_code(zipped, tmp_path):
    path, made = tmp_path / "weights.pth", tmp_path / "made"
    torch.save({"state_dict": original(), "x": RunsCode(made)}, path, _use_new_zipfile_serialization=zipped)

    with pytest.raises(
        CheckpointError, match=r"weights\.pth holds \w+\.mkdir, a Python object whose loading could run"
    ):
        read_checkpoint(path)

    assert not made.exists()


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("bare", [True, False], ids=["a bare pickle", "torch.save"])
def test_refuses_a_pickle_of_a_later_protocol_as_one_that_could_run_code(bare, protocol, tmp_path):
    path, made = tmp_path / "weights.pth", tmp_path / "made"
    content = {"x": RunsCode(made)}
    if bare:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol)

    with pytest.raises(CheckpointError, match=r"loading could run code; it was not loaded\. Save only the state_dict"):
        read_checkpoint(path)

    assert not made.exists()


def truncated() -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(original(), buffer)
    return buffer.getvalue()[: buffer.tell() // 2]


DAMAGED = {
    "empty": lambda: b"",
    "text": lambda: b"<html>404 not found</html>\n",
    "random bytes": lambda: np.random.default_rng(0).bytes(5000),
    "truncated": truncated,
    "a bare pickle": lambda: pickle.dumps([1, 2]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_says_in_a_line_that_a_file_is_no_checkpoint(kind, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(DAMAGED[kind]())

    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)

    assert "weights.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_never_give_another_error(seed, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(original(), path, _use_new_zipfile_serialization=bool(seed % 2))
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, 600, 8):
        content[at] = rng.integers(256)
    path.write_bytes(content)

    try:
        read_checkpoint(path)
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017  (a file that survived is fine too)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "arch": "resnet"}, r"holds no state_dict: its entries are epoch, arch; save the network's alone"),
        ({}, "holds no state_dict: its entries are none"),
        (torch.zeros(3), "holds a Tensor, not a state_dict"),
    ],
)
def test_a_file_without_a_state_dict_tells_what_it_has(content, message, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)

    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth: no such file"):
        read_checkpoint(tmp_path / "gone.pth")


def test_a_folder_is_told_from_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder; wanted: the checkpoint file in it"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pose.onnx", "an ONNX graph.*: edgepose import"),
        ("pose.keras", r"model\.save_weights"),
    ],
)
def test_a_file_of_another_kind_is_told_what_to_do_with_it(name, advice, tmp_path):
    (tmp_path / name).write_bytes(b"any")

    with pytest.raises(CheckpointError, match=advice):
        read_checkpoint(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # torch's own, of what it is about to drop
def test_a_torchscript_program_is_not_run_and_told_how_to_give_its_weights(tmp_path):
    torch.jit.script(nn.ReLU()).save(str(tmp_path / "pose.pt"))

    with pytest.raises(CheckpointError, match=r"TorchScript program.*torch\.jit\.load\(FILE\)\.state_dict"):
        read_checkpoint(tmp_path / "pose.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_key_that_is_not_finite_is_named(value, tmp_path):
    state = original()
    state["layer3.0.bn1.weight"][0] = value
    torch.save(state, tmp_path / "weights.pth")

    with pytest.raises(CheckpointError, match=r"layer3\.0\.bn1\.weight holds NaN or infinite"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse_coo float32 on cpu"),
        (lambda: torch.ones(2, dtype=torch.complex64), "strided complex64 on cpu"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "strided qint8 on cpu"),
        (lambda: torch.ones(2, device="meta"), "strided float32 on meta"),
    ],
    ids=["sparse", "complex", "quantised", "without values"],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, of what it is about to drop
def test_values_that_are_not_plain_numbers_are_named(make, kind, tmp_path):
    torch.save({"good": torch.ones(1), "conv1.weight": make()}, tmp_path / "weights.pth")

    with pytest.raises(CheckpointError, match=rf"conv1\.weight is {kind}; wanted plain numbers"):
        read_checkpoint(tmp_path / "weights.pth")


def test_another_architecture_names_the_first_keys_that_differ(tmp_path):
    shallow = make_network(18, 3).state_dict()
    network: nn.Module = make_network(50, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}

    with pytest.raises(CheckpointError) as caught:
        load_into(network, dict(shallow), path=tmp_path / "r18.pth", label="simplebaseline_resnet50 coco 256x192")

    message = str(caught.value)
    assert "r18.pth is not a checkpoint of simplebaseline_resnet50 coco 256x192" in message
    assert "keys missing (first: layer1.0.conv3.weight)" in message
    assert "of another shape (first: layer1.0.conv1.weight is (1, 1, 3, 3), wanted (1, 1, 1, 1))" in message
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_keys_beside_the_networks_own_are_refused_and_the_advice_is_not_another_network():
    state = original()
    averaged = {f"ema_{key.replace('.', '_')}": value for key, value in state.items()}
    network = SimpleBaseline(18, 2, planes=(1, 1, 1, 1), deconv_filters=2)

    with pytest.raises(CheckpointError) as caught:
        load_into(network, {**state, **averaged}, path="ema.pth", label="small")

    assert "unexpected (first: ema_conv1_weight); else it is simplebaseline_tiny" in str(caught.value)
    assert str(caught.value).endswith("with that network's keys and no others")


def test_another_familys_checkpoint_is_told_how_it_is_taken_for_what_it_is():
    with pytest.raises(
        CheckpointError, match=r"is \(3, 2, 1, 1\), wanted \(2.*with 3 output channels: leave out --model"
    ):
        load_into(make_network(18, 2), make_network(18, 3).state_dict(), path="three.pth", label="small")


def test_an_image_net_backbone_lacks_the_head():
    backbone = {key: value for key, value in original().items() if not key.startswith(("deconv", "final"))}
    backbone["fc.weight"] = torch.zeros(1000, 4)

    with pytest.raises(CheckpointError, match=r"first: deconv_layers\.0\.weight\), 1 unexpected \(first: fc\.weight\)"):
        load_into(make_network(), backbone, path="resnet50.pth", label="small")
