"""What is installed, and that it works with numpy and click alone."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgepose import __version__
from edgepose.cli import COMMANDS
from tests.packaging.conftest import ROOT, Install

FOLDERS = ("edgepose", "export", "calibration", "benchmarks")


def test_has_no_package_but_numpy_and_click(install: Install):
    code = "import importlib.util as u; print([p for p in ('cv2', 'torch', 'onnx', 'setuptools') if u.find_spec(p)])"

    assert install.run("python", "-c", code).stdout.strip() == "[]"


def test_prints_its_version(install: Install):
    assert install.run("edgepose", "--version").stdout.strip() == f"edgepose, version {__version__}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_works(install: Install, command: str):
    done = install.run("edgepose", *command.split(), "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: edgepose {command}".rstrip())


def test_a_missing_package_is_named_with_the_extra_that_brings_it(install: Install):
    done = install.run("edgepose", "export", "--model", "simplebaseline_resnet18", "--weights", "random")

    assert done.returncode == 1
    assert "pip install 'edgepose[workstation]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_finds_all_four_folders(install: Install):
    code = """
import importlib.util, json, os
import edgepose.calibration
from edgepose import calibration
names = ("edgepose", "edgepose.export", "edgepose.calibration", "edgepose.benchmarks")
folders = {name: importlib.util.find_spec(name).submodule_search_locations[0] for name in names}
print(json.dumps({
    "files": {name: sorted(os.listdir(folder)) for name, folder in folders.items()},
    "one object": calibration is edgepose.calibration,
    "short names": [name for name in ("export", "calibration", "benchmarks") if importlib.util.find_spec(name)],
}))
"""

    done = install.run("python", "-c", code)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "networks" in found["files"]["edgepose.export"]
    assert "py.typed" in found["files"]["edgepose"]
    assert found["one object"]
    assert found["short names"] == []


def test_networks_import_by_their_long_name():
    pytest.importorskip("torch")
    from edgepose.export.networks import simple_baseline

    assert simple_baseline.__name__ == "edgepose.export.networks.simple_baseline"


def package_files(sources: Path) -> set[str]:
    """Every file below the four folders, by its installed name."""
    paths = [path for folder in FOLDERS for path in (sources / folder).rglob("*") if path.is_file()]
    names = [path.relative_to(sources).as_posix() for path in paths]
    return {name if name.startswith("edgepose/") else f"edgepose/{name}" for name in names}


def installed_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_four_folders_and_nothing_else(wheel: Path, sources: Path):
    assert installed_files(wheel) == package_files(sources)


def test_the_wheel_carries_its_licence(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read(f"edgepose-{__version__}.dist-info/licenses/LICENSE")

    assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_builds_the_same_wheel(wheel: Path, wheel_from_sdist: Path):
    assert installed_files(wheel_from_sdist) == installed_files(wheel)


def test_the_sdist_holds_the_tests_and_the_versions_they_ran_with(sdist: Path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"constraints.txt", "README.md", "LICENSE", "tests/makers.py", "tests/packaging/test_install.py"} <= names
