"""Who imports whom: device and workstation halves stay apart, each heavy package has one door."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.packaging.conftest import ROOT

WORKSTATION = ("export", "calibration", "benchmarks")
SOURCES = sorted(
    path.relative_to(ROOT).as_posix() for folder in ("edgepose", *WORKSTATION) for path in (ROOT / folder).rglob("*.py")
)

# package -> the files and folders that may import it
DOORS = {
    "openvino": ("edgepose/backends/openvino_graph.py",),
    "onnxruntime": ("edgepose/backends/ort.py", "export/", "calibration/"),
    "pycocotools": ("edgepose/evaluation/coco_ap.py",),
    "tensorrt": ("edgepose/trt/versions.py",),
    "tensorrt_rtx": ("edgepose/trt/versions.py",),
    "av": ("edgepose/io/video.py", "edgepose/io/resizing.py"),
    "pycuda": ("edgepose/cuda/memory.py",),
    "cuda": ("edgepose/cuda/bindings.py",),
    "torch": ("export/",),
    "matplotlib": ("edgepose/io/space.py",),
    "plotly": ("calibration/charts.py",),
    "h5py": ("export/checkpoints/keras.py",),
    "onnx": ("export/", "calibration/"),
    "onnxsim": ("export/", "calibration/"),
    "onnxscript": ("export/", "calibration/"),
}


def imports_of(source: str) -> Iterator[tuple[str, bool]]:
    """Every module a source file imports, and whether inside a function."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{source}: line {child.lineno} imports relatively: say edgepose...."
                yield from ((f"{child.module}.{alias.name}", inside) for alias in child.names)
            else:
                yield from walk(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    yield from walk(ast.parse((ROOT / source).read_text(encoding="utf-8")), False)


@pytest.mark.parametrize("source", [source for source in SOURCES if not source.startswith("benchmarks/")])
def test_a_heavy_package_is_imported_behind_its_door(source: str):  # benchmarks compare with whatever there is
    for module, _ in imports_of(source):
        doors = DOORS.get(module.partition(".")[0])
        assert doors is None or source.startswith(doors), f"{source} imports {module}; its door is {', '.join(doors)}"


@pytest.mark.parametrize("source", SOURCES)
def test_a_folder_is_imported_by_its_long_name(source: str):  # the short one is a second module object
    for module, _ in imports_of(source):
        assert module.partition(".")[0] not in WORKSTATION, f"{source} imports {module}: say edgepose.{module}"


@pytest.mark.parametrize("source", [source for source in SOURCES if source.startswith("edgepose/")])
def test_the_device_half_reaches_the_workstation_half_only_in_a_commands_body(source: str):
    for module, inside_function in imports_of(source):
        if module.startswith(tuple(f"edgepose.{folder}" for folder in WORKSTATION)):
            assert inside_function, f"{source} imports {module} at its top"
            assert source.startswith("edgepose/cli/"), f"{source} imports {module}; only a command may"


BUILDERS = ("edgepose/trt/build.py", "edgepose/trt/values.py")  # what builds a plan


@pytest.mark.parametrize("source", [s for s in SOURCES if s.startswith("edgepose/trt/") and s not in BUILDERS])
def test_what_runs_a_plan_does_not_import_what_builds_one(source: str):
    builds = ("edgepose.trt.build", "edgepose.trt.serialise", "edgepose.trt.values")
    assert not any(module.startswith(builds) for module, _ in imports_of(source))


# Refuses every import but those of the standard library, click, numpy and edgepose itself.
BARE = """
import sys

class OnlyBase:
    allowed = {*sys.stdlib_module_names, *ALLOWED, "edgepose"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r} in the base install", name=name)

sys.meta_path.insert(0, OnlyBase())
"""


def run_bare(code: str, allowed: tuple[str, ...]) -> str:
    """Run code in a fresh interpreter that can import the standard library, edgepose and `allowed`; its output."""
    code = BARE.replace("ALLOWED", repr(allowed)) + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_help_works_with_numpy_and_click_alone():
    code = """
import json
from click.testing import CliRunner
from edgepose.cli import COMMANDS, main
runs = {name: CliRunner().invoke(main, [*name.split(), "--help"]) for name in ["", *COMMANDS]}
print(json.dumps({name: repr(run.exception) for name, run in runs.items() if run.exit_code != 0}))
"""

    assert json.loads(run_bare(code, ("numpy", "click"))) == {}


def test_importing_edgepose_loads_nothing_heavier_than_numpy():
    code = "import edgepose, sys; print('cv2' in sys.modules)"

    assert run_bare(code, ("numpy",)).strip() == "False"
