"""Networks that find key points in space, as volumes or as three vectors each, in INT8."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgepose.backends import load_runtime
from edgepose.calibration.pipeline import calibrate
from edgepose.cli import main
from edgepose.files import sha256_of
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import Input, ModelSpec, Region
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import decode_outputs
from tests.calibration.graphs import GraphMaker

pytest.importorskip("openvino")

DEPTH = 8
POINTS = Skeleton("two", ("pelvis", "head"), flip_pairs=())
PICTURE = Input((64, 48), mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
VOLUME = ModelSpec("volume", PICTURE, Volume((DEPTH, 32, 24)), POINTS, Region(padding=1.0))
VECTORS = ModelSpec("vectors", PICTURE, SimCC(0.5, depth_bins=32), POINTS, Region(padding=1.0))
FEATURES = 12


def features_of(g: GraphMaker) -> str:
    """(n, FEATURES, 32, 24): smooth red, green, blue, and nothing."""
    colours = np.zeros((FEATURES, 3, 2, 2))
    colours[range(3), range(3)] = 1 / 4  # the mean of each 2x2 pixels
    x = g.node("Conv", ["crops", g.weight("stem.weight", colours)], "stem", strides=[2, 2])
    blur = np.zeros((FEATURES, FEATURES, 3, 3))
    blur[range(3), range(3)] = np.outer([1, 2, 1], [1, 2, 1]) / 16
    x = g.node("Conv", [g.node("Relu", [x], "stem_relu"), g.weight("blur.weight", blur)], "blur", pads=[1] * 4)
    return g.node("Relu", [x], "blur_relu")


def volume_network() -> onnx.ModelProto:
    """Finds a red pelvis and a green head; the bluer either is, the deeper it lies."""
    g = GraphMaker()
    head = np.zeros((2, DEPTH, FEATURES, 1, 1))
    layer = np.arange(DEPTH).reshape(DEPTH, 1, 1) - (DEPTH - 1) / 2
    for point in range(2):  # where it is, exp is a normal distribution over the layers: around 4 * blue - 2
        head[point, :, point], head[point, :, 2] = 30 - layer**2 / 2 - 2 * layer, 4 * layer
    head_weight = g.weight("head.weight", head.reshape(2 * DEPTH, FEATURES, 1, 1))
    g.node("Conv", [features_of(g), head_weight], "volume")
    return g.model(["n", 3, 64, 48], "volume")


def vectors_network() -> onnx.ModelProto:
    """Finds a red pelvis and a green head along x and y, and the lower in the picture the deeper."""
    g = GraphMaker()
    maps = g.conv(features_of(g), "maps", (2, FEATURES, 1, 1))
    g.weights[-1].CopyFrom(
        numpy_helper.from_array(np.eye(2, FEATURES, dtype=np.float32)[..., None, None], "maps.weight")
    )
    tokens = g.node("Reshape", [maps, g.int64("tokens_shape", [0, 2, 32 * 24])], "tokens")
    along_y = np.repeat(np.eye(32), 24, axis=0)  # sums over each row of a map
    for axis, sums in (("x", np.tile(np.eye(24), (32, 1))), ("y", along_y), ("z", along_y)):
        g.node("MatMul", [tokens, g.weight(f"{axis}.weight", sums)], f"simcc_{axis}")
    model = g.model(["n", 3, 64, 48], "simcc_x", output_rank=3)
    for name, bins in (("simcc_y", 32), ("simcc_z", 32)):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, bins]))
    return model


def picture(seed: int) -> np.ndarray:
    """(64, 48, 3) uint8 RGB: black, with a red and a green square, bluer or less, on whole cells."""
    rng = np.random.default_rng(seed)
    image = np.zeros((64, 48, 3), np.uint8)
    for channel, top in ((0, 32), (1, 0)):
        x, y = 4 * rng.integers(1, 10), top + 4 * rng.integers(1, 6)
        image[y : y + 8, x : x + 8, channel] = 255
        image[y : y + 8, x : x + 8, 2] = rng.choice([0, 85, 170, 255])  # so few that calibration sees them all
    return image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for seed in range(6):
        cv2.imwrite(str(tmp_path / "images" / f"{seed}.png"), picture(seed)[..., ::-1])
    return tmp_path / "images"


def write(path: Path, network: onnx.ModelProto, spec: ModelSpec) -> Path:
    onnx.save(network, path)
    write_passport(path, Passport(spec, "fp32", sha256_of(path), "made"))
    return path


def keypoints_of(path: Path) -> np.ndarray:
    """(8, 2, 4) of pictures that calibration has not seen."""
    boxes = np.array([[0, 0, 48, 64]], np.float32)
    with closing(load_runtime(path, exact=True)) as runtime:
        spec = runtime.passport.spec
        crops = [cut_out(picture(seed), Regions.around(boxes, spec), spec) for seed in range(50, 58)]
        return decode_outputs(runtime.run({"crops": np.concatenate(crops)}), spec)[0]


def test_a_volumes_key_points_in_int8_are_near_fp32s(images, tmp_path):
    model = write(tmp_path / "m.onnx", volume_network(), VOLUME)

    result = calibrate(model, [images], method="minmax")

    wanted, found = keypoints_of(model), keypoints_of(result.int8)
    assert (wanted[..., 2] > 0.5).all()  # scores: there is something to compare
    assert np.ptp(wanted[..., 3]) > 0.5  # metres of depth, of two
    # Colours are 1 at most. Two tensors rounded to half of 1/127 and weights to 1/254 of their largest value move them
    # by 0.016, and so the middle of four times blue by 0.06 layers. Places move less: both sides of a square alike.
    apart = np.abs(wanted - found) / (1, 1, 1, VOLUME.head.depth_m / DEPTH)
    assert apart[..., [0, 1, 3]].max() < 0.25


def test_key_points_of_three_vectors_in_int8_are_near_fp32s(images, tmp_path):
    model = write(tmp_path / "m.onnx", vectors_network(), VECTORS)

    result = calibrate(model, [images], method="minmax")

    wanted, found = keypoints_of(model), keypoints_of(result.int8)
    assert (wanted[..., 2] > 0.5).all()
    assert np.ptp(wanted[..., 3]) > 1  # metres of depth, of twice 2.17
    bin_m = 2 * VECTORS.head.depth_range / 32
    # a square has two highest bins, of which rounding may choose either
    assert (np.abs(wanted - found) <= np.array([1, 1, np.inf, bin_m]) / (0.5, 0.5, 1, 1) + 1e-5).all()


@pytest.mark.parametrize(
    ("network", "spec", "head_macs"),
    [
        (volume_network, VOLUME, 768 * 2 * DEPTH * FEATURES),
        (vectors_network, VECTORS, 768 * 2 * FEATURES + 768 * 2 * (24 + 32 + 32)),  # maps, and three products
    ],
)
def test_the_share_of_multiply_adds_in_int8_is_told(network, spec, head_macs, images, tmp_path):
    model = write(tmp_path / "m.onnx", network(), spec)

    result = CliRunner().invoke(main, ["calibrate", "--boxes", "whole", "--images", str(images), "--model", str(model)])

    assert result.exit_code == 0, result.output
    body_macs = 768 * (FEATURES * 3 * 4 + FEATURES * FEATURES * 9)
    assert f"2 layers in INT8, {body_macs / (body_macs + head_macs):.1%} of the multiply-adds" in result.output
    assert "2 with a score over 0.3, of 1 held-out people" in result.output
    int8 = read_passport(tmp_path / "m.int8.onnx")
    assert (int8.precision, int8.spec) == ("int8", spec)
