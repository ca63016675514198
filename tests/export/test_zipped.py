"""Zip archives that are given as ONNX files: checkpoints of PyTorch, and what publishers pack."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from edgepose.errors import ModelFileError
from edgepose.export.foreign import load_foreign


def test_a_checkpoint_that_is_named_onnx_is_told(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4)}, tmp_path / "m.onnx")

    with pytest.raises(ModelFileError, match="it is a PyTorch checkpoint; `edgepose export` reads"):
        load_foreign(tmp_path / "m.onnx")


def test_an_archive_is_told_with_the_model_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.onnx", "w") as archive:
        archive.writestr("sdk/end2end.onnx", b"")

    with pytest.raises(ModelFileError, match=r"it is a zip archive; unpack it first, it holds sdk/end2end\.onnx"):
        load_foreign(tmp_path / "m.onnx")
