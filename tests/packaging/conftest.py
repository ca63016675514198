"""The project built and installed, once for all tests here. Nothing is built inside the working tree."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = (
    ".git",
    ".venv*",
    ".*_cache",
    ".cache",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "demo_output",
    "typings",
)


def code_blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def edgepose_lines(text: str) -> list[str]:
    """Every `edgepose ...` that a document shows in its bash blocks."""
    lines = [line for block in code_blocks(text, "bash") for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if line.startswith("edgepose ")]


def edgepose_mentions(text: str) -> list[str]:
    """Every `edgepose ...` with arguments that a document mentions in a sentence."""
    return re.findall(r"`(edgepose [a-z]+ [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


@dataclass(frozen=True)
class Install:
    """edgepose in a virtual environment that has numpy and click and nothing else."""

    bin: Path
    home: Path  # a folder to run it in, away from the sources

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; its output as text."""
        program = [str(self.bin / command[0]), *command[1:]]
        elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # of the sources, say
        return subprocess.run(program, cwd=self.home, env=elsewhere, capture_output=True, text=True, timeout=60)


def build(kind: str, sources: Path, output: Path) -> Path:
    """Call setuptools as pip does: kind is "wheel" or "sdist"."""
    code = f"import sys; from setuptools.build_meta import build_{kind} as b; print(b(sys.argv[1]))"
    output.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code, str(output)], cwd=sources, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone would hold. Copy it to build: setuptools leaves things behind."""
    folder = tmp_path_factory.mktemp("sources") / "edgepose"
    return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_SOURCE)))


@pytest.fixture(scope="session")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build("wheel", shutil.copytree(sources, folder / "sources"), folder / "dist")


@pytest.fixture(scope="session")
def sdist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build("sdist", shutil.copytree(sources, folder / "sources"), folder / "dist")


@pytest.fixture(scope="session")
def wheel_from_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel_from_sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "dist")


@pytest.fixture(scope="session", params=[(), ("--editable",)], ids=["pip install .", "pip install -e ."])
def install(request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    folder = tmp_path_factory.mktemp("install")
    shutil.copytree(sources, folder / "sources")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    site_packages = next((folder / "venv").glob("lib/python*/site-packages"))
    for package in ("numpy", "click", "setuptools"):
        link_installed(package, site_packages)

    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", *request.param, str(folder / "sources")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (site_packages / "setuptools").unlink()  # was needed to build only
    (folder / "home").mkdir()
    return Install(python.parent, folder / "home")


def link_installed(package: str, site_packages: Path) -> None:
    """Make a package of this environment importable in another one, without asking an index."""
    for file in importlib.metadata.files(package) or ():
        top = file.parts[0]
        if top.startswith("..") or (site_packages / top).exists():
            continue
        (site_packages / top).symlink_to(Path(str(file.locate())).parents[len(file.parts) - 2])
