from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgepose.backends import load_backend
from edgepose.cli import main
from edgepose.errors import InputError, ModelFileError
from edgepose.export.drawn.crops import sample_crops
from edgepose.export.foreign import import_model, read_spec
from edgepose.export.graph.run import run_onnx
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import ModelSpec
from tests.makers import make_spec
from tests.shared_data import SHARED, needs_shared

SPEC = make_spec(name="foreign")
SHAPE_IN, SHAPE_OUT = (1, 3, 64, 48), (1, 2, 16, 12)


def write_foreign(
    path: Path,
    *,
    shape_in: Sequence[int | str] = SHAPE_IN,
    shape_out: Sequence[int | str] = SHAPE_OUT,
    output: str = "out",
    nodes: Sequence[NodeProto] = (),
    element: int = TensorProto.FLOAT,
    opset: int = 13,
) -> Path:
    """A 4x4 convolution of stride 4 with BatchNorm, named as no edgepose file is; `nodes` go from `x` to the output."""
    rng = np.random.default_rng(0)
    nodes = nodes or [helper.make_node("Relu", ["x"], [output])]
    weights = {
        "w": rng.normal(0, 0.1, (2, 3, 4, 4)).astype(np.float32),
        **{name: rng.uniform(0.5, 1, 2).astype(np.float32) for name in ("scale", "bias", "mean", "var")},
        "one": np.array([1, 2, 16, 12], np.int64),
        "single": np.array([2, 16, 12], np.int64),
        "axis": np.array([0], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["in", "w"], ["c"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["x"]),
            *nodes,
        ],
        "foreign",
        [helper.make_tensor_value_info("in", element, shape_in)],
        [helper.make_tensor_value_info(output, element, shape_out)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def shapes(model: onnx.ModelProto) -> list[list[int | str]]:
    values = (*model.graph.input, *model.graph.output)
    return [[size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]


def test_a_static_foreign_graph_becomes_edgeposes_form(tmp_path):
    path = write_foreign(tmp_path / "theirs.onnx")
    crops = sample_crops(SPEC)

    imported = import_model(path, SPEC, tmp_path)

    expected = np.concatenate([run_onnx(onnx.load(path), crops[i : i + 1])[0] for i in range(len(crops))])
    model, passport = onnx.load(imported.fp32), read_passport(imported.fp32)
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["crops", "heatmaps"]
    assert shapes(model) == [["n", 3, 64, 48], ["n", 2, 16, 12]]
    assert model.opset_import[0].version == 19
    np.testing.assert_allclose(load_backend(imported.fp32).heatmaps(crops), expected, atol=1e-5)
    np.testing.assert_allclose(load_backend(imported.fp16).heatmaps(crops), expected, atol=1e-2)
    assert (passport.weights, passport.spec, len(passport.weights_sha256)) == ("theirs.onnx", SPEC, 64)
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "foreign.fp16.onnx",
        "foreign.fp16.onnx.json",
        "foreign.onnx",
        "foreign.onnx.json",
        "theirs.onnx",
    ]


def test_a_graph_that_fixes_its_batch_stays_so(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "single"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Unsqueeze", ["z", "axis"], ["out"]),
    ]
    steps: list[str] = []

    imported = import_model(write_foreign(tmp_path / "theirs.onnx", nodes=nodes), SPEC, tmp_path, report=steps.append)

    assert shapes(onnx.load(imported.fp32)) == [[1, 3, 64, 48], [1, 2, 16, 12]]
    assert any("1 crop at a time" in step for step in steps)
    assert load_backend(imported.fp32).heatmaps(sample_crops(SPEC)).shape == (3, 2, 16, 12)


def test_a_reshape_that_only_fixes_the_batch_is_dropped(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "one"], ["out"])]

    imported = import_model(write_foreign(tmp_path / "theirs.onnx", nodes=nodes), SPEC, tmp_path)

    assert shapes(onnx.load(imported.fp32)) == [["n", 3, 64, 48], ["n", 2, 16, 12]]


def test_names_of_its_own_that_are_edgeposes_are_moved_away(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["heatmaps"]), helper.make_node("Neg", ["heatmaps"], ["crops"])]
    nodes.append(helper.make_node("Neg", ["crops"], ["out"]))

    imported = import_model(write_foreign(tmp_path / "theirs.onnx", nodes=nodes), SPEC, tmp_path)

    assert imported.fp32_difference.relative < 1e-5


def test_the_output_is_the_named_one_else_heatmaps_else_the_first(tmp_path):
    path = write_foreign(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Neg", ["out"], ["heatmaps"]))
    model.graph.output.append(helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, SHAPE_OUT))
    onnx.save(model, path)

    found, named = (import_model(path, SPEC, tmp_path / "".join(names), outputs=names) for names in ((), ("out",)))

    crops = sample_crops(SPEC)
    assert load_backend(found.fp32).heatmaps(crops).max() <= 0
    assert load_backend(named.fp32).heatmaps(crops).max() > 0
    with pytest.raises(ModelFileError, match="has no output paf, which its heatmaps head wants; it has: out, heatmaps"):
        import_model(path, SPEC, tmp_path, outputs=["paf"])


@pytest.mark.parametrize(
    ("changes", "spec", "message"),
    [
        ({}, {"input_hw": (128, 96)}, r"input in is 1x3x64x48, but the spec says nx3x128x96: correct the spec"),
        ({}, {"heatmap_hw": (32, 24)}, r"output out is 1x2x16x12, but the spec says nx2x32x24"),
        ({}, {"skeleton": COCO17}, r"output out is 1x2x16x12, but the spec says nx17x16x12"),
        ({"element": TensorProto.DOUBLE}, {}, r"input in is double, wanted float32"),
        ({"shape_out": ("a", "b", "c", "d")}, {"heatmap_hw": (32, 24)}, r"gives 1x2x16x12 for one crop, .* 1x2x32x24"),
    ],
)
def test_what_does_not_fit_its_spec_is_told_and_leaves_no_file(changes, spec, message, tmp_path):
    path = write_foreign(tmp_path / "theirs.onnx", **changes)

    with pytest.raises(ModelFileError, match=message):
        import_model(path, make_spec(name="foreign", **spec), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_channels_last_is_told_as_such(tmp_path):
    path = write_foreign(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.node[0].input[0] = "first"
    model.graph.node.insert(0, helper.make_node("Transpose", ["in"], ["first"], perm=[0, 3, 1, 2]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 64, 48, 3]))
    onnx.save(model, path)

    with pytest.raises(ModelFileError, match="in is 1x64x48x3, channels last; wanted channels first, nx3x64x48"):
        import_model(path, SPEC, tmp_path)


DAMAGED = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a model at all\n",
    "random": lambda content: np.random.default_rng(0).bytes(2000),
    "truncated": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_line(kind, tmp_path):
    path = write_foreign(tmp_path / "theirs.onnx")
    path.write_bytes(DAMAGED[kind](path.read_bytes()))

    with pytest.raises(ModelFileError, match=r"theirs\.onnx is not a valid ONNX file") as caught:
        import_model(path, SPEC, tmp_path / "out")

    assert "\n" not in str(caught.value)


def test_a_file_is_not_overwritten_by_its_own_import(tmp_path):
    path = write_foreign(tmp_path / "foreign.onnx")
    before = path.read_bytes()

    with pytest.raises(ModelFileError, match="would be overwritten"):
        import_model(path, SPEC, tmp_path)

    assert path.read_bytes() == before


def test_damaged_weights_are_told(tmp_path):
    path = write_foreign(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((2, 3, 4, 4), np.nan, np.float32), "w"))
    onnx.save(model, path)

    with pytest.raises(ModelFileError, match="NaN or infinite heat maps"):
        import_model(path, SPEC, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"spec\.json: the file is empty"),
        ("[1, 2]", "must be a JSON object"),
        ('{"name": "x"}', "missing heatmap_hw, input_hw, skeleton"),
        (json.dumps({**SPEC.to_json(), "name": "a/b"}), "names the files to write"),
        (json.dumps({**SPEC.to_json(), "name": ""}), "name must be text"),
        (json.dumps({**SPEC.to_json(), "mean": "grey"}), r"spec\.json"),
    ],
)
def test_a_bad_spec_is_told(text, message, tmp_path):
    (tmp_path / "spec.json").write_text(text)

    with pytest.raises((InputError, ModelFileError), match=message):
        read_spec(tmp_path / "spec.json")


def test_a_missing_spec_points_at_its_description(tmp_path):
    with pytest.raises(ModelFileError, match=r"gone\.json: no such file; docs/spec\.md"):
        read_spec(tmp_path / "gone.json")


def test_the_documents_example_is_a_spec():
    text = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
    example = json.loads(text.split("```json\n")[1].split("```")[0])

    spec = ModelSpec.from_json(example)

    assert all(f"`{name}`" in text for name in spec.to_json())


def shared_spec(name: str) -> dict[str, object]:
    """models.json's units are 0..1 where its scale says so; a spec's are grey levels."""
    models = json.loads((SHARED / "models" / "models.json").read_text())
    entry = models[name]
    height, width = (int(side) for side in entry["file"].removesuffix(".onnx").rsplit("_", 1)[1].split("x"))
    model = onnx.load(SHARED / "models" / entry["file"])
    heatmap_hw = [size.dim_value for size in model.graph.output[0].type.tensor_type.shape.dim][2:]
    keypoints = {"name": entry["joints"], "keypoints": models["_joint_sets"][entry["joints"]]}
    return {
        "name": name,
        "input_hw": [height, width],
        "heatmap_hw": heatmap_hw,
        "skeleton": "coco17" if entry["joints"] == "coco17" else keypoints,
        "color_order": entry["order"],
        "mean": [value / entry["scale"] for value in entry["mean"]],
        "std": [value / entry["scale"] for value in entry["std"]],
        "box_padding": entry["pad"],
    }


@needs_shared
@pytest.mark.parametrize("name", ["ultralight_simplepose", "cpm_mobilenetv2", "efficientpose_rt"])
def test_trained_networks_from_elsewhere_come_through_the_command(name, tmp_path):
    models = json.loads((SHARED / "models" / "models.json").read_text())
    (tmp_path / "spec.json").write_text(json.dumps(shared_spec(name)))
    source = SHARED / "models" / models[name]["file"]

    result = CliRunner().invoke(
        main, ["import", str(source), "--spec", str(tmp_path / "spec.json"), "-o", str(tmp_path)]
    )

    assert result.exit_code == 0, result.output
    passport = read_passport(tmp_path / f"{name}.fp16.onnx")
    assert shapes(onnx.load(tmp_path / f"{name}.onnx"))[0][0] == "n"
    assert passport.verified["fp16_keypoints_compared"] >= 10
    assert passport.verified["fp16_keypoint_px"] < 0.1


def test_a_spec_in_a_pipe_is_told_what_to_do(tmp_path):
    os.mkfifo(tmp_path / "spec")  # as --spec <(command) gives one

    with pytest.raises(InputError, match=r"spec: a pipe or a device, a file was wanted: save it to a file first"):
        read_spec(tmp_path / "spec")


@pytest.mark.parametrize("command", [("import", "--preset", "vitpose-256x192"), ("build",), ("export", "--weights")])
def test_a_model_in_a_pipe_is_told_what_to_do(command, tmp_path):
    os.mkfifo(tmp_path / "m.onnx")

    result = CliRunner().invoke(main, [*command, str(tmp_path / "m.onnx")])

    assert result.exit_code == 1
    assert "m.onnx: a pipe or a device, a" in result.output
    assert result.output.endswith("file was wanted: save it to a file first\n")
