"""What the documents say of commands, messages and Python is true of the code."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from types import SimpleNamespace
from typing import Any

import click
import cv2
import numpy as np
import pytest

import edgepose
from edgepose.cli import COMMANDS, main
from tests.packaging.conftest import ROOT, code_blocks, edgepose_lines, edgepose_mentions

DOCUMENTS = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
JETSON = DOCUMENTS["docs/jetson.md"].read_text(encoding="utf-8")


TEXTS = [(name, path.read_text(encoding="utf-8")) for name, path in DOCUMENTS.items()]


def parse(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)[1:]
    assert name in COMMANDS
    command = main.get_command(click.Context(main), name)
    assert command is not None
    command.make_context(name, arguments)  # UsageError for an option or value it does not take


@pytest.mark.parametrize(("document", "line"), [(name, line) for name, text in TEXTS for line in edgepose_lines(text)])
def test_a_command_in_a_document_is_understood(document: str, line: str):
    parse(line)


@pytest.mark.parametrize(
    ("document", "line"), [(name, line) for name, text in TEXTS for line in edgepose_mentions(text)]
)
def test_a_command_in_a_sentence_has_the_options_it_is_given(document: str, line: str):
    with contextlib.suppress(click.MissingParameter):  # a sentence leaves out what it is not about
        parse(line)


def test_the_way_from_a_fresh_jetson_passes_the_main_commands():
    shown = {line.split()[1] for line in edgepose_lines(JETSON)}

    assert {"doctor", "export", "calibrate", "evaluate", "build", "inspect", "infer", "benchmark"} <= shown


def messages() -> list[str]:
    """Every string of edgepose/, with … for what is filled in."""
    found = []
    for path in (ROOT / "edgepose").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def quoted_messages() -> list[str]:
    table = JETSON.partition("## When edgepose stops")[2].partition("##")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return [re.findall("`(.+?)`", cell)[0] for cell in first_cells]


@pytest.mark.parametrize("message", quoted_messages())
def test_a_message_that_the_jetson_page_explains_is_one_of_edgeposes(message: str):
    pattern = ".*".join(re.escape(part) for part in message.split("…"))

    assert any(re.search(pattern, known) for known in messages())


def test_the_jetson_pages_camera_loop_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (program,) = code_blocks(JETSON, "python")
    frames = [np.full((1080, 1280), 128, np.uint8)]  # NV12

    class Camera:
        def __init__(self, pipeline: str, backend: int) -> None:
            assert backend == cv2.CAP_GSTREAMER

        def read(self) -> tuple[bool, np.ndarray | None]:
            return (True, frames.pop()) if frames else (False, None)

    def estimate_poses(backend: Any, image: edgepose.Frame, boxes_xyxy: np.ndarray) -> edgepose.Poses:
        assert (image.format, image.hw) == ("nv12", (720, 1280))
        assert boxes_xyxy.tolist() == [[0, 0, 1280, 720]]
        return edgepose.Poses(np.full((1, 2, 2), 7.5), np.ones((1, 2)), boxes_xyxy)

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(edgepose, "load_backend", lambda path: SimpleNamespace(warm_up=lambda: None))
    monkeypatch.setattr(edgepose, "estimate_poses", estimate_poses)

    exec(compile(program, "jetson.md", "exec"), {})

    assert capsys.readouterr().out.count("7.5") == 4


def test_links_between_documents_lead_somewhere():
    for name, text in TEXTS:
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert link.startswith("http") or (DOCUMENTS[name].parent / link).exists(), f"{name} links to {link}"
