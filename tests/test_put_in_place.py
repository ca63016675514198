from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepose.files import check_targets, put_in_place

NAMES = ["m.onnx", "m.onnx.json", "m.fp16.onnx"]


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"new {name}")
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_moves_all_over_what_is_there(made, out):
    (out / "m.onnx").write_text("old")
    (out / "other.txt").write_text("stays")

    put_in_place(made, out, NAMES)

    assert contents(out) == {**{name: f"new {name}" for name in NAMES}, "other.txt": "stays"}
    assert list(made.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt])
def test_a_move_that_fails_takes_the_others_back(error, links, made, out, monkeypatch):
    (out / "m.onnx").write_text("old")
    moved, move = [], os.replace

    def replace(source: Path, target: Path) -> None:
        if len(moved) == 2:
            moved.append(target)
            raise error
        moved.append(target)
        move(source, target)

    def no_link(source: Path, target: Path) -> None:
        raise OSError

    monkeypatch.setattr(os, "replace", replace)
    if not links:
        monkeypatch.setattr(os, "link", no_link)

    with pytest.raises(error):
        put_in_place(made, out, NAMES)

    assert contents(out) == {"m.onnx": "old"}
    assert [path.name for path in out.iterdir()] == ["m.onnx"]


def test_a_folder_in_the_way_is_named_before_anything_moves(made, out):
    (out / "m.fp16.onnx").mkdir()

    with pytest.raises(IsADirectoryError, match=r"in the way of a file.*m\.fp16\.onnx"):
        put_in_place(made, out, NAMES)

    assert contents(out) == {}
    assert len(contents(made)) == 3


def test_the_folder_may_be_missing_but_not_a_file(tmp_path):
    check_targets(tmp_path / "missing", NAMES)
    (tmp_path / "file").write_text("mine")

    with pytest.raises(NotADirectoryError, match="file"):
        check_targets(tmp_path / "file", NAMES)
