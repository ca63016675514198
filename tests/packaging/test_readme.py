"""The README's commands and Python work as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import onnx
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, write_passport
from tests.makers import make_spec, smooth_image
from tests.packaging.conftest import ROOT, code_blocks, edgepose_lines, edgepose_mentions

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_main_commands():
    shown = {line.split()[1] for line in edgepose_lines(README) + edgepose_mentions(README)}

    assert {"export", "calibrate", "build", "infer", "evaluate", "import"} <= shown


def test_make_has_the_readmes_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    targets = re.findall(r"^make (\w+)", "\n".join(code_blocks(README, "bash")), flags=re.MULTILINE)

    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_the_python_runs(tmp_path: Path):
    (snippet,) = code_blocks(README, "python")
    model = tmp_path / re.search(r'load_backend\("(.+?)"\)', snippet)[1]
    onnx.save(average_pool(), model)
    write_passport(model, Passport(make_spec(), "fp32", sha256_of(model), "random"))
    cv2.imwrite(str(tmp_path / "photo.jpg"), smooth_image(320, 240))

    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(1, 2, 2) (1, 2)"


def test_the_table_of_models_lists_what_can_be_exported():
    table = CliRunner().invoke(main, ["models", "--markdown"]).output

    assert table.count("\n") > 50
    assert "| `higher_hrnet_w32` |" in table
    assert table in (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), f"docs/models.md should hold:\n{table}"


def average_pool() -> onnx.ModelProto:
    """The smallest network that fits `make_spec`: crops (n, 3, 64, 48) to heatmaps (n, 2, 16, 12)."""
    from onnx import TensorProto, helper

    crops = helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, 64, 48])
    heatmaps = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 2, 16, 12])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [2, 3, 4, 4], [1 / 48] * 96)
    node = helper.make_node("Conv", ["crops", "weight"], ["heatmaps"], strides=[4, 4])
    graph = helper.make_graph([node], "average", [crops], [heatmaps], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def constrained() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {normal(line.partition("==")[0]) for line in lines if "==" in line}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_in_the_constraints():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    wanted = {normal(name) for name in re.findall(r'"([A-Za-z][\w-]*)>=[^"]*"', metadata)} - {"pycuda"}  # needs a GPU

    assert {"numpy", "torch", "pytest"} <= wanted
    assert wanted <= constrained()


def test_the_oldest_versions_that_are_promised_are_those_that_the_chain_is_run_with():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\ndev = [")[0]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()

    promised = dict(re.findall(r'"([A-Za-z][\w-]*)>=([\d.]+)"', metadata))
    pinned = dict(line.partition("#")[0].strip().split("==") for line in lines if "==" in line)

    assert promised.keys() - {"setuptools", "pycuda"} == pinned.keys()  # one builds, the other needs a GPU
    assert all(f"{pinned[name]}.".startswith(f"{promised[name]}.") for name in pinned)
