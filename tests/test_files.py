from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from edgepose.files import whole_file, write_bytes


def test_a_link_keeps_leading_to_the_file_that_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.json").write_bytes(b"old")
    (tmp_path / "link.json").symlink_to("there/a.json")

    write_bytes(tmp_path / "link.json", b"new")

    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "there" / "a.json").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a.json"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()

    write_bytes(pipe, b"new")

    reader.join(timeout=10)
    assert read == [b"new"]
    assert pipe.is_fifo()


def test_a_device_stays_a_device(tmp_path):
    (tmp_path / "nowhere").symlink_to("/dev/null")

    write_bytes(tmp_path / "nowhere", b"new")

    assert (tmp_path / "nowhere").is_symlink()
    assert Path("/dev/null").is_char_device()


def test_a_folder_is_refused_before_the_work(tmp_path):
    with pytest.raises(IsADirectoryError) as error, whole_file(tmp_path):
        raise AssertionError("the work was begun")

    assert error.value.filename == str(tmp_path)


def test_a_failure_names_the_wanted_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_bytes(b"old")

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(OSError, match="No space left") as error:
        write_bytes(tmp_path / "a.json", b"new")

    assert error.value.filename == str(tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


@pytest.mark.parametrize(("number", "named"), [(errno.EDQUOT, True), (errno.ENOTCONN, False)])
def test_only_a_failed_write_without_a_name_is_the_wanted_files(tmp_path, number, named):
    with pytest.raises(OSError, match="while") as error, whole_file(tmp_path / "a.bin"):
        raise OSError(number, "while the body ran")

    assert error.value.filename == (str(tmp_path / "a.bin") if named else None)


def test_a_folder_that_cannot_be_written_names_the_wanted_file():
    with pytest.raises(OSError, match=r"/proc/a\.json") as error:
        write_bytes(Path("/proc/a.json"), b"new")

    assert error.value.filename == "/proc/a.json"


def test_an_interrupt_while_the_temporary_file_is_made_leaves_none(tmp_path, monkeypatch):
    touch = Path.touch

    def made_and_interrupted(path: Path, **options: bool) -> None:
        touch(path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", made_and_interrupted)

    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.json", b"")

    assert list(tmp_path.iterdir()) == []
