from __future__ import annotations

from pathlib import Path

import pytest

from edgepose.errors import CheckpointError, ModelFileError
from edgepose.export.checkpoints.state_dict import read_checkpoint
from edgepose.export.foreign import load_foreign
from edgepose.model.first_bytes import told_by_first_bytes
from edgepose.model.passport import Passport, read_passport, write_passport
from tests.makers import make_spec


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\n<!DOCTYPE html><html>", "a gated file wants you to log in"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"Access denied. You must be authenticated", "a server's refusal; a gated file wants you to log in"),
        (b"Invalid username or password.", "a server's refusal; a gated file wants you to log in"),
        (b"Entry not found", "a server's answer that there is no such file"),
        (b"Salted__12345678", "encrypted"),
        (b"age-encryption.org/v1\n", "encrypted"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"PK\x03\x04\x33\0\1\0\x63\0", "an encrypted zip archive"),
        (b"", "it is empty"),
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
    for start in (b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04", b"\x08\x08\x12\x07pytorch"):
        (tmp_path / "m.bin").write_bytes(start)

        assert told_by_first_bytes(tmp_path / "m.bin") == ""


@pytest.mark.parametrize("passport", [False, True])
def test_a_model_file_of_another_kind_is_told_before_its_passport(tmp_path: Path, passport: bool):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    if passport:
        write_passport(model, Passport(make_spec(), "fp32", "0" * 64, "known"))

    with pytest.raises(ModelFileError, match=r"m\.onnx is not a model file: it is a Git LFS pointer"):
        read_passport(model)
