"""What `edgepose import` refuses, in one line and before it writes anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgepose.cli import main
from edgepose.errors import EdgeposeError, ModelFileError
from edgepose.export.drawn.crops import sample_crops
from edgepose.export.fitting import fitting_crops
from edgepose.export.foreign import import_model, read_spec
from edgepose.export.graph.run import run_onnx
from edgepose.model.heads.heatmaps import Heatmaps
from edgepose.model.heads.simcc import SimCC
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import Input, ModelSpec, Region
from tests.makers import dots_spec, write_toy_model

SPEC = dots_spec(name="mine")


def write_spec(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps({**SPEC.to_json(), **changes}))
    return path


@pytest.mark.parametrize(("precision", "found"), [("fp16", "in half precision"), ("int8", "quantised")])
def test_edgeposes_own_lower_precisions_are_sent_back_to_fp32(precision, found, tmp_path):
    path = write_toy_model(tmp_path / "m.onnx", precision=precision)

    with pytest.raises(ModelFileError, match=f"is {found} already .*; wanted the FP32 file"):
        import_model(path, SPEC, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_cast_to_half_precision_is_found_without_half_weights(tmp_path):
    path = write_toy_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[0].output[0] = "single"
    nodes = [("single", "half", onnx.TensorProto.FLOAT16), ("half", "pooled", onnx.TensorProto.FLOAT)]
    for index, (source, target, kind) in enumerate(nodes):
        model.graph.node.insert(1 + index, onnx.helper.make_node("Cast", [source], [target], to=kind))
    onnx.save(model, path)

    with pytest.raises(ModelFileError, match="is in half precision already"):
        import_model(path, SPEC, tmp_path / "out")


def test_a_fixed_batch_of_several_is_named(tmp_path):
    path = write_toy_model(tmp_path / "m.onnx", batch=4)

    with pytest.raises(ModelFileError, match="crops is 4x3x64x48, a batch of 4; wanted 1 or a dynamic one"):
        import_model(path, SPEC, tmp_path / "out")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\0b", "a\n", "é", "x" * 101, "C:x"])
def test_a_name_unfit_for_a_file_is_refused(name, tmp_path):
    with pytest.raises(ModelFileError, match=r"spec\.json: .*name"):
        read_spec(write_spec(tmp_path / "spec.json", name=name))


@pytest.mark.parametrize("name", ["m", "my-net_v1.2", "x" * 100])
def test_a_plain_name_is_taken(name, tmp_path):
    assert read_spec(write_spec(tmp_path / "spec.json", name=name)).name == name


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_spec_that_is_no_json_is_one_line(content, tmp_path):
    (tmp_path / "spec.json").write_bytes(content)

    with pytest.raises(EdgeposeError, match=r"spec\.json: (not readable as JSON|the file is empty)"):
        read_spec(tmp_path / "spec.json")


def test_an_output_folder_that_is_a_file_is_refused_first(tmp_path):
    path, spec, out = write_toy_model(tmp_path / "m.onnx"), write_spec(tmp_path / "spec.json"), tmp_path / "out"
    out.write_text("mine")

    result = CliRunner().invoke(main, ["import", str(path), "--spec", str(spec), "-o", str(out)])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"edgepose: {out}: Not a directory: name another path")
    assert result.stderr.count("\n") == 1
    assert out.read_text() == "mine"


VECTORS = {"simcc_x": [None, 17, 384], "simcc_y": [None, 17, 512]}
SIMCC, MAPS = SimCC(split_ratio=2.0), Heatmaps((64, 48))


@pytest.mark.parametrize(
    ("found", "head", "told"),
    [
        (
            VECTORS,
            MAPS,
            "SimCC vectors of 17 key points with a split ratio of 2: a head of kind simcc, or --preset rtm",
        ),
        (VECTORS, SIMCC, ""),
        ({"a": [1, 17, 576], "b": [1, 17, 768]}, SIMCC, "split ratio of 3, and the spec says 2"),
        ({"a": [1, 133, 384], "b": [1, 133, 512]}, SIMCC, "and coco17 has 17: skeletons of 133 are wholebody133"),
        ({"a": [1, 7, 384], "b": [1, 7, 512]}, SIMCC, "and coco17 has 17: no skeleton of 7 is known: write one"),
        ({"a": [1, 17, 512], "b": [1, 17, 384]}, SIMCC, "swapped, that along x comes first: --output-name b,a"),
        ({"simcc_y": [1, 17, 384], "simcc_x": [1, 17, 512]}, SIMCC, "swapped.*: --output-name simcc_y,simcc_x"),
        ({"simcc_y": [1, 17, 512], "simcc_x": [1, 17, 384]}, SIMCC, ""),
        ({"a": [1, 17, 384], "b": [1, 17, 500]}, SIMCC, ""),
        ({"simcc_x": [1, 17, 384]}, SIMCC, "SimCC has two vectors a key point, along x and along y: export it with"),
        ({"out": [1, 17, 64, 48]}, SIMCC, "17 maps of 64x48: a head of kind heatmaps, or --preset mmdeploy-heatmap"),
        ({"out": [1, 17, 64, 48]}, MAPS, ""),
        ({"out": [1, 17, 96, 72]}, MAPS, r"17 maps of 96x72: size_hw of its head is \[96, 72\]"),
        (
            {"out": [1, 133, 64, 48]},
            MAPS,
            "133 maps of 64x48, and coco17 has 17 key points: skeletons of 133 are whole",
        ),
        ({"out": [1, 14, 64, 48]}, MAPS, "skeletons of 14 are aic14, crowdpose14"),
    ],
)
def test_outputs_are_told_what_fits_them(found, head, told):
    spec = ModelSpec("m", Input((256, 192)), head, COCO17, Region())

    hint = fitting_crops(found, spec)

    assert re.search(told, hint)
    assert bool(told) == bool(hint)


def simcc_file(path: Path, *names: str, points: int = 17, bins: tuple[int, int] = (48, 64)) -> Path:
    """Vectors of an input of 32x24 with two bins a px, each highest at its second bin along x, third along y."""
    nodes, constants, outputs = [], [], []
    for index, (name, length) in enumerate(zip(names, bins, strict=True)):
        vectors = np.random.default_rng(index).uniform(0, 0.4, (1, points, length)).astype(np.float32)
        vectors[..., 1 + index] = 0.9
        constants.append(numpy_helper.from_array(vectors, f"{name}_bias"))
        nodes.append(helper.make_node("Add", ["zero", f"{name}_bias"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", points, length]))
    constants.append(numpy_helper.from_array(np.zeros(1, np.float32), "none"))
    constants.append(numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "row"))
    nodes = [
        helper.make_node("ReduceMean", ["in"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "row"], ["flat"]),
        helper.make_node("Mul", ["flat", "none"], ["zero"]),
        *nodes,
    ]
    taken = [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, 32, 24])]
    graph = helper.make_graph(nodes, "simcc", taken, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


SMALL = ModelSpec("m", Input((32, 24)), SIMCC, COCO17, Region())


@pytest.mark.parametrize(
    ("names", "bins", "chosen"),
    [
        (("simcc_y", "simcc_x"), (48, 64), ("simcc_y", "simcc_x")),  # they change places
        (("out", "other"), (48, 64), ()),
        (("other", "out"), (64, 48), ("out", "other")),
    ],
)
def test_vectors_of_other_names_are_taken_in_their_order_or_as_named(names, bins, chosen, tmp_path):
    path = simcc_file(tmp_path / "theirs.onnx", *names, bins=bins)

    imported = import_model(path, SMALL, tmp_path, outputs=chosen)

    found = run_onnx(onnx.load(imported.fp32), sample_crops(SMALL), ["simcc_x", "simcc_y"])
    assert [values.shape for values in found] == [(3, 17, 48), (3, 17, 64)]
    assert {values.argmax(axis=2).item(0) for values in found} == {1, 2}


@pytest.mark.parametrize(
    ("names", "chosen", "message"),
    [
        (("simcc_x", "simcc_y"), ("simcc_y", "simcc_x"), r"simcc_y is \?x17x64, but the spec says nx17x48"),
        (
            ("simcc_x", "simcc_y"),
            ("simcc_x",),
            r"simcc head has 2 outputs \(simcc_x, simcc_y\), and --output-name says simcc_x",
        ),
        (("simcc_x", "other"), (), "has no output simcc_y, which its simcc head wants; it has: simcc_x, other"),
    ],
)
def test_outputs_that_are_swapped_or_lack_are_refused(names, chosen, message, tmp_path):
    path = simcc_file(tmp_path / "theirs.onnx", *names)

    with pytest.raises(ModelFileError, match=message):
        import_model(path, SMALL, tmp_path / "out", outputs=chosen)
