from __future__ import annotations

from pathlib import Path

import pytest

from edgepose.errors import CheckpointError, ModelFileError
from edgepose.export.checkpoints.first_bytes import told_by_first_bytes
from edgepose.export.checkpoints.state_dict import read_checkpoint
from edgepose.export.foreign import load_foreign


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\n<!DOCTYPE html><html>", "a gated file wants you to log in"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"Salted__12345678", "encrypted"),
        (b"age-encryption.org/v1\n", "encrypted"),
    ],
)
def test_a_file_that_is_no_model_is_told_what_it_is(tmp_path: Path, start: bytes, what: str):
    (tmp_path / "m.onnx").write_bytes(start)
    (tmp_path / "m.pth").write_bytes(start)
    (tmp_path / "m.safetensors").write_bytes(start)

    with pytest.raises(ModelFileError, match=what):
        load_foreign(tmp_path / "m.onnx")
    with pytest.raises(CheckpointError, match=what):
        read_checkpoint(tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=what):  # before the package that reads such files is asked for
        read_checkpoint(tmp_path / "m.safetensors")


def test_of_other_files_nothing_is_told(tmp_path: Path):
    (tmp_path / "m.bin").write_bytes(b"")

    assert told_by_first_bytes(tmp_path / "m.bin") == ""
