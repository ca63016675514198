"""Pictures that are too large, damaged, or no files."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.errors import CalibrationError
from edgepose.io import images
from edgepose.stages import crop as preprocess
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from tests.faults.conftest import annotate, assert_refused, run
from tests.makers import dots_spec, smooth_image

pytest.importorskip("openvino")


def white_png(path: Path, side: int) -> Path:
    """A whole PNG of side x side grey pixels of one bit, white ones."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(1), b"\0" + b"\xff" * -(-side // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(images.PNG + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Path:
    """2.7 GB when it is decoded."""
    return white_png(tmp_path_factory.mktemp("huge") / "huge.png", 30_000)


def test_infer_refuses_a_huge_picture_before_it_is_decoded(toy, huge, tmp_path):
    result = run("infer", "--engine", toy, "--input", huge, "-o", tmp_path / "out")

    assert_refused(result, str(huge), "too large", "268435456 pixels")
    assert not list(tmp_path.glob("out/*"))


def test_evaluate_refuses_a_huge_picture(toy, huge, tmp_path):
    data = annotate(tmp_path, {"file_name": "huge.png"})

    assert_refused(run("evaluate", "--engine", toy, "--images", huge.parent, "--annotations", data), "too large")


def test_calibrate_refuses_a_huge_picture(huge):
    from edgepose.calibration.dataset import read_calibration_set

    with pytest.raises(CalibrationError, match="too large"):
        read_calibration_set([huge], None, limit=1, seed=0)


def test_opencv_is_told_the_limit_for_pictures_of_all_kinds(monkeypatch):
    monkeypatch.delenv("OPENCV_IO_MAX_IMAGE_PIXELS", raising=False)

    run("--version")

    assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == str(images.LARGEST_PICTURE)


def test_a_picture_of_another_kind_is_refused_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGEST_PICTURE", 99 * 100)
    cv2.imwrite(str(tmp_path / "a.bmp"), np.zeros((100, 100, 3), np.uint8))

    with pytest.raises(images.InputError, match="too large"):
        images.read_image(tmp_path / "a.bmp")


@pytest.mark.parametrize("box", [[0, 0, 300, 200], [50, 60, 70, 90]])
def test_crops_of_an_array_beyond_opencvs_bytes_are_nearly_those_of_one_within(monkeypatch, box):
    image, spec = smooth_image(200, 300), dots_spec()
    regions = Regions.around(np.array([box], np.float32), spec)
    wanted = cut_out(image, regions, spec)

    monkeypatch.setattr(preprocess, "CV2_LARGEST_BYTES", 3 * 150 * 100)
    found = cut_out(image, regions, spec)

    # every second pixel of the whole picture: half a pixel of it is under 2 % of the smooth picture's 37 px a colour
    assert np.abs(found - wanted).max() < 0.05
    assert np.abs(found - wanted).max() > 0 or box != [0, 0, 300, 200]
