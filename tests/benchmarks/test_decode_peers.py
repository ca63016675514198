from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.benchmarks.peers import decode as decode_peers
from edgepose.benchmarks.peers.decode import DECODERS, compare, drawn_heatmaps, fetch_mmpose, load_mmpose, main
from edgepose.errors import InputError
from tests.makers import make_spec

# As mmpose's files in what they import and define; refinement is left out, so that ours differ by it.
POST_PROCESSING = """
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

def get_heatmap_maximum(heatmaps):
    flat = heatmaps.reshape(len(heatmaps), -1)
    y, x = np.divmod(flat.argmax(1), heatmaps.shape[2])
    return np.stack([x, y], 1).astype(np.float32), flat.max(1)

def nms(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 3)
"""
REFINEMENT = """
from .post_processing import get_heatmap_maximum

def refine_keypoints(keypoints, heatmaps):
    return keypoints

def refine_keypoints_dark(keypoints, heatmaps, blur_kernel_size):
    heatmaps[:] = 0
    return keypoints

refine_keypoints_dark_udp = refine_keypoints_dark
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mmpose-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mmpose/codecs/utils/post_processing.py", POST_PROCESSING)
        archive.writestr("mmpose/codecs/utils/refinement.py", REFINEMENT)
    return path


def test_loads_the_two_files_and_leaves_no_module_behind(wheel):
    before = set(sys.modules)

    mmpose = load_mmpose(wheel)

    xy, scores = mmpose.post_processing.get_heatmap_maximum(drawn_heatmaps(1, make_spec())[0])
    assert xy.shape == (2, 2)
    assert scores.shape == (2,)
    assert not {name for name in set(sys.modules) - before if "torch" in name or "mmpose" in name}


@pytest.mark.parametrize("decoder", DECODERS)
def test_compares_time_and_result(wheel, decoder):
    row = compare(load_mmpose(wheel), decoder, people=2, rounds=3)

    assert min(row.ours_us, row.mmpose_us, row.ratio) > 0
    assert 0.1 < row.largest_difference < 1.5  # the refinement that the stand-in lacks


def test_main_prints_a_row_per_decoder_and_batch(wheel):
    result = CliRunner().invoke(main, ["--wheel", str(wheel), "--people", "1", "--people", "2", "--rounds", "1"])

    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 1 + 2 * len(DECODERS)


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_file_that_is_no_wheel_is_one_line(tmp_path, content):
    path = tmp_path / "mmpose-0.whl"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "")
    else:
        path.write_bytes(content)

    result = CliRunner().invoke(main, ["--wheel", str(path)])

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {path} is not a wheel of mmpose")
    assert len(result.output.splitlines()) == 1


def test_no_network_is_one_line(tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no matching distribution\n")

    monkeypatch.setattr(decode_peers.subprocess, "run", fail)

    with pytest.raises(InputError, match=r"cannot download mmpose==.*no matching distribution.*--wheel"):
        fetch_mmpose(tmp_path)


def test_drawn_heatmaps_peak_once_each():
    heatmaps = drawn_heatmaps(3, make_spec())

    assert heatmaps.shape == (3, 2, 16, 12)
    assert heatmaps.dtype == np.float32
    assert (heatmaps.max(axis=(2, 3)) > 0.15).all()
