import json

import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from edgepose.cli import main
from edgepose.export.fitting import fitting_maps
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec
from tests.makers import TOY_WEIGHTS

PICTURE = Input((64, 96), resize="letterbox")
FIELDS = ModelSpec("f", PICTURE, Fields((16, 24)), OPENPOSE18)
JOINED = ModelSpec("f", PICTURE, Fields((16, 24), joined=True), OPENPOSE18)
TAGS = ModelSpec("t", PICTURE, Tags((16, 24)), COCO17)


@pytest.mark.parametrize(
    ("spec", "channels", "known"),
    [
        (FIELDS, {"a": 38, "b": 19}, "--output-name b,a"),
        (FIELDS, {"a": 57}, '"joined": true in the head'),
        (FIELDS, {"heatmaps": 17, "tags": 17}, ""),
        (JOINED, {"heatmaps": 19, "pafs": 38}, 'leave "joined" out of the head'),
        (TAGS, {"heatmaps": 17, "tags": 34}, '34 maps of tags for 17 key points are "tag_size": 2 in the head'),
        (TAGS, {"heatmaps": 17, "tags": 18}, "18 maps of tags are no multiple of 17, the key points of coco17"),
        (TAGS, {"a": 34}, "heat maps and tags must be two outputs"),
    ],
)
def test_what_outputs_of_whole_images_may_be_is_told(spec, channels, known):
    found = fitting_maps({name: [1, count, 16, 24] for name, count in channels.items()}, spec)

    assert known in found
    assert bool(known) == bool(found)


def toy(path, channels: dict[str, int], scale: int) -> None:
    """A graph of averages of the picture, with outputs of so many channels."""
    nodes = [helper.make_node("AveragePool", ["x"], ["small"], kernel_shape=[scale] * 2, strides=[scale] * 2)]
    weights, outputs = [], []
    for name, count in channels.items():
        nodes.append(helper.make_node("Conv", ["small", f"{name}.weight"], [name]))
        kernels = TOY_WEIGHTS.reshape(2, 3, 1, 1)[[0] * count]
        weights.append(numpy_helper.from_array(kernels, f"{name}.weight"))
        outputs.append(helper.make_tensor_value_info(name, 1, [1, count, 64 // scale, 48 // scale]))
    image = helper.make_tensor_value_info("x", 1, [1, 3, 64, 48])
    graph = helper.make_graph(nodes, "toy", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize(
    ("head", "channels", "told"),
    [
        (
            {"kind": "tags"},
            {"heatmaps": 17, "tags": 34},
            "or name another output; 34 maps of tags for 17 key",
        ),
        ({"kind": "fields"}, {"o": 57}, "wanted: 2, for heatmaps, pafs; heat maps and fields are one output here"),
        ({"kind": "heatmaps"}, {"heatmaps": 57}, 'as OpenPose has 19 heat maps and 38 fields: kind "fields", "joined"'),
    ],
)
def test_import_tells_what_the_outputs_may_be(head, channels, told, tmp_path):
    toy(tmp_path / "m.onnx", channels, 4)
    whole = {"resize": "letterbox"} if head["kind"] != "heatmaps" else {}
    document = {
        "name": "m",
        "skeleton": "openpose18" if head["kind"] == "fields" else "coco17",
        "input": {"size_hw": [64, 48], **whole},
        "head": {"size_hw": [16, 12], **head},
    }
    (tmp_path / "spec.json").write_text(json.dumps(document))

    result = CliRunner().invoke(
        main, ["import", str(tmp_path / "m.onnx"), "--spec", str(tmp_path / "spec.json"), "-o", str(tmp_path / "out")]
    )

    assert result.exit_code == 1
    assert told in result.output.splitlines()[-1]
