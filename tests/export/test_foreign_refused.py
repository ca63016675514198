"""What `edgepose import` refuses, in one line and before it writes anything."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.errors import EdgeposeError, ModelFileError
from edgepose.export.foreign import import_model, read_spec, simcc_vectors
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


@pytest.mark.parametrize(
    ("found", "skeleton", "told"),
    [
        ({"simcc_x": [None, 17, 384], "simcc_y": [None, 17, 512]}, COCO17, "17 key points with a split ratio of 2"),
        ({"a": [1, 17, 576], "b": [1, 17, 768]}, COCO17, "split ratio of 3"),
        ({"a": [1, 133, 384], "b": [1, 133, 512]}, COCO17, "of 133 key points with a split ratio of 2, and coco17 has"),
        ({"a": [1, 17, 512], "b": [1, 17, 384]}, COCO17, "swapped"),
        ({"heatmaps": [1, 17, 64, 48]}, COCO17, ""),
        ({"a": [1, 17, 384], "b": [1, 17, 500]}, COCO17, ""),
    ],
)
def test_vectors_are_told_what_fits_them(found, skeleton, told):
    spec = ModelSpec("m", Input((256, 192)), SimCC(split_ratio=2.0), skeleton, Region())

    hint = simcc_vectors(found, spec)

    assert told in hint
    assert bool(told) == bool(hint)
