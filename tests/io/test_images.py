from __future__ import annotations

import base64
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pytest

from edgepose.errors import EdgeposeError, InputError
from edgepose.io.images import find_images, read_image, turned_by_exif, write_image
from tests.makers import smooth_image, with_orientation

# 8x8 pixels of no cyan, full magenta, full yellow, no black: red
RED_CMYK_JPEG = base64.b85decode(
    "|JeWT01iQ9Z(?NtWB>pF0095n07C#95)>B{5gQj47aklNASgmBC?zE*Q93;^LSR*8WM5TXTWWZjfogG(b6Z`7wT6(MqpPi}XMnuPx~9jOsH>#^zyK5o"
    "00;mG1Va%3O%VWD5dcdO0RO}Q6aWDL000000000000000000L6!~hf!0RR910000000000000000RP$m4g^C0O#oQ{O8@{r08BD6O#j&"
)


def encoded(image: np.ndarray, suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


def written(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def test_a_folder_gives_its_images_sorted_without_hidden_and_other_files_and_subfolders(tmp_path):
    written(tmp_path, "b.JPG", "a.png", ".hidden.jpg", "notes.txt", "deeper/c.jpg")

    assert [path.name for path in find_images([tmp_path])] == ["a.png", "b.JPG"]


def test_files_folders_and_globs_keep_their_order_and_come_once(tmp_path):
    written(tmp_path, "z.jpg", "in/a.jpg", "in/b.jpg", "odd.name")

    found = find_images([tmp_path / "z.jpg", str(tmp_path / "*" / "b.jpg"), tmp_path / "in", tmp_path / "odd.name"])

    assert [path.name for path in found] == ["z.jpg", "b.jpg", "a.jpg", "odd.name"]


def test_a_file_with_glob_signs_in_its_name_is_that_file(tmp_path):
    (path,) = written(tmp_path, "a[1].jpg")

    assert find_images([path]) == [path]


@pytest.mark.parametrize(
    ("name", "message"), [("none.jpg", "no such file"), ("*.jpg", "matches no file"), ("", "no images in this folder")]
)
def test_what_is_not_there_is_said(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        find_images([str(tmp_path / name)])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff", ".jpg"])
def test_colours_come_as_rgb(tmp_path, suffix):
    path = tmp_path / f"red{suffix}"
    path.write_bytes(encoded(np.full((9, 7, 3), (0, 0, 255), np.uint8), suffix))

    image = read_image(path)

    assert image.shape == (9, 7, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 3  # JPEG


GREY = np.full((5, 4), 100, np.uint8)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (GREY, 100),
        (GREY.astype(np.uint16) * 257, 100),
        (np.dstack([GREY, GREY, GREY, GREY // 2]), 100),
        (np.dstack([GREY] * 3).astype(np.uint16) * 257, 100),
        (GREY[:1, :1], 100),
    ],
    ids=["grey", "grey 16 bits", "transparent", "16 bits", "1x1"],
)
def test_every_kind_of_png_becomes_three_channels_of_8_bits(tmp_path, pixels, expected):
    (tmp_path / "a.png").write_bytes(encoded(pixels, ".png"))

    image = read_image(tmp_path / "a.png")

    assert image.shape == (*pixels.shape[:2], 3)
    assert (image == expected).all()


def test_cmyk_becomes_rgb(tmp_path):
    (tmp_path / "a.jpg").write_bytes(RED_CMYK_JPEG)

    image = read_image(tmp_path / "a.jpg")

    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 8


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_rotation_in_exif_is_ignored_and_told(tmp_path, order):
    jpeg = encoded(smooth_image(40, 60), ".jpg")
    rotated = with_orientation(jpeg, 6, order)
    (tmp_path / "plain.jpg").write_bytes(jpeg)
    (tmp_path / "rotated.jpg").write_bytes(rotated)
    assert cv2.imread(str(tmp_path / "rotated.jpg")).shape == (60, 40, 3)  # OpenCV sees it

    image = read_image(tmp_path / "rotated.jpg")

    np.testing.assert_array_equal(image, read_image(tmp_path / "plain.jpg"))
    assert turned_by_exif(rotated)


def test_no_rotation_is_seen_where_there_is_none():
    jpeg = encoded(smooth_image(40, 60), ".jpg")
    upright = with_orientation(jpeg, 1)

    assert not any(map(turned_by_exif, (jpeg, upright, upright[:30], jpeg[:2], b"", encoded(smooth_image(), ".png"))))


def test_bytes_after_the_end_mark_do_no_harm(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(smooth_image(), ".jpg") + b"\xff\xda trailer of a phone")

    assert read_image(tmp_path / "a.jpg").shape == (120, 160, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_a_truncated_image_is_one_line_and_nothing_else(tmp_path, capfd, suffix, share):
    data = encoded(smooth_image(), suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(InputError) as error:
        read_image(path)

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("content", [b"", b"hello\n" * 50, np.random.default_rng(0).bytes(5000)], ids=len)
def test_what_is_no_image_is_one_line_and_nothing_else(tmp_path, capfd, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=name):
        read_image(tmp_path / name)

    assert capfd.readouterr().err == ""


def test_a_png_with_a_changed_byte_is_damaged(tmp_path, capfd):
    data = bytearray(encoded(smooth_image(), ".png"))
    data[len(data) // 2] ^= 0x55
    (tmp_path / "a.png").write_bytes(data)

    with pytest.raises(InputError, match="checksum"):
        read_image(tmp_path / "a.png")

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["missing.jpg", ""])
def test_a_missing_file_and_a_folder_are_no_images(tmp_path, name):
    with pytest.raises(InputError, match=str(tmp_path)):
        read_image(tmp_path / name)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2_000_000, 10)])
def test_an_image_too_large_for_opencv_is_one_line_without_its_sources(tmp_path, capfd, width, height):
    data = bytearray(encoded(smooth_image(), ".png"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)

    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.png")

    assert "too large" in str(error.value)
    assert "opencv/" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_name_with_a_zero_byte_is_no_image():
    with pytest.raises(InputError, match="cannot be a file's name"):
        read_image(Path("a\0.jpg"))


def test_a_png_reads_as_it_was_written(tmp_path):
    write_image(tmp_path / "a.png", smooth_image())

    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), smooth_image())


def test_a_picture_too_large_for_its_format_is_the_users_error(tmp_path):
    with pytest.raises(EdgeposeError, match="70000x1"):
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8))

    assert list(tmp_path.iterdir()) == []
