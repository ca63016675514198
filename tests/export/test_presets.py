from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.errors import ModelFileError
from edgepose.export.presets import PRESETS, pose_preset
from tests.shared_data import SHARED, needs_shared


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_spec_named_after_it(preset):
    assert pose_preset(preset, preset).name == preset


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ModelFileError, match=r"unknown preset 'yolo99'; known: pp-tinypose-256x192, .*docs/spec.md"):
        pose_preset("yolo99", "any")


@pytest.mark.parametrize("options", [[], ["--spec", "a.json", "--preset", "pp-tinypose-256x192"]])
def test_a_spec_or_a_preset_is_asked_for(options):
    result = CliRunner().invoke(main, ["import", "a.onnx", *options])

    assert result.exit_code == 2
    assert "either --spec FILE or --preset NAME" in result.output


@needs_shared
def test_a_real_pp_tinypose_is_imported_by_its_preset(tmp_path):
    path = SHARED / "models" / "pptinypose_coco17_256x192.onnx"

    result = CliRunner().invoke(main, ["import", str(path), "--preset", "pp-tinypose-256x192", "-o", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert (tmp_path / "pp-tinypose-256x192.fp16.onnx").is_file()
