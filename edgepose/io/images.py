"""Image files in: finding them and reading them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import Literal
from zlib import crc32

import cv2
import numpy as np

from edgepose.errors import EdgeposeError, InputError
from edgepose.files import read_input, write_bytes
from edgepose.io.opencv_log import DAMAGED, overheard
from edgepose.limits import LARGEST_PICTURE

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
LARGEST_SIDE = 1_000_000  # px; libpng's limit
TOO_LARGE = f"the image is too large, wanted at most {LARGEST_PICTURE} pixels and a million a side: make it smaller"

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # stuffed zeros and restarts belong to the scan they are in


def find_images(inputs: Iterable[str | Path], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The files that paths stand for, each once, in the order given.

    Args:
        inputs: files (taken whatever they are called), folders (their files with one of the suffixes, sorted by
            name; hidden files and sub-folders are left out) and globs ("frames/*.jpg", "**" for any depth).
        suffixes: what counts as wanted in a folder, lower case.

    Raises:
        InputError: a path does not exist, a glob matches nothing, a folder holds no such file.
    """
    found: dict[Path, None] = {}
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
            files = [file for file in files if not file.name.startswith(".")]
            if not files:
                raise InputError(
                    f"{path}: no images in this folder (wanted: {', '.join(suffixes)}); its sub-folders are not "
                    f"searched: name them, or give a glob, '{path}/**/*.jpg' say"
                )
        elif path.exists():
            files = [path]
        else:
            files = [Path(name) for name in sorted(glob(str(item), recursive=True)) if Path(name).is_file()]
            if not files:
                is_glob = any(sign in str(item) for sign in "*?[")
                raise InputError(f"{item}: {'matches no file' if is_glob else 'no such file or folder'}")
        found.update(dict.fromkeys(files))
    return list(found)


def read_image(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Grey images get three equal channels, transparency is dropped, 16 bits become 8, CMYK becomes RGB. A rotation
    noted in EXIF is ignored, as published code and COCO's annotations do: coordinates are those of the stored pixels.

    Raises:
        InputError: the file is missing, empty, truncated, or no image.
    """
    return decode_image(path, read_input(path))


def decode_image(path: Path, data: bytes) -> np.ndarray:
    """The content of an image file as `read_image` gives it; the path is for the error alone."""
    if data.startswith(PNG) and (max(_png_wh(data)) > LARGEST_SIDE or math.prod(_png_wh(data)) > LARGEST_PICTURE):
        raise InputError(f"{path}: {TOO_LARGE}")
    if (damage := _damage(data)) is not None:
        raise InputError(f"{path}: the image is {damage}: copy or download it again")
    with overheard() as words:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            why = TOO_LARGE if "MAX_IMAGE" in str(error) else "not a readable image (damaged)"
            raise InputError(f"{path}: {why}") from error
    if pixels is None:
        raise InputError(f"{path}: not a readable image (damaged, or of a kind that OpenCV does not read)")
    if pixels.shape[0] * pixels.shape[1] > LARGEST_PICTURE:  # OpenCV's own limit is higher where no command has set it
        raise InputError(f"{path}: {TOO_LARGE}")
    if damaged := next(filter(DAMAGED.match, words), None):
        raise InputError(f"{path}: the image is damaged ({damaged}): copy or download it again")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def turned_by_exif(data: bytes) -> bool:
    """True for a JPEG whose EXIF notes that its pixels are to be turned or mirrored; `read_image` does not."""
    position = 2
    while data[:2] == b"\xff\xd8" and data[position : position + 1] == b"\xff":
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1 : position + 2] == b"\xe1" and data[position + 4 : position + 10] == b"Exif\0\0":
            return 2 <= _orientation(data[position + 10 : end]) <= 8
        if data[position + 1 : position + 2] == b"\xda":
            break  # the pixels
        position = end
    return False


def turned_warning(count: int) -> str:
    """What to tell of images whose rotation was ignored."""
    return (
        f"{count} images note a rotation in EXIF, which was ignored: people may lie on their side, and boxes must be "
        f"of the stored pixels; turn them upright first (mogrify -auto-orient, say)"
    )


def _orientation(tiff: bytes) -> int:
    """The value of TIFF's tag 0x0112 in the first directory; 0 where there is none (TIFF 6.0, section 2)."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], order)

    first = number(4, 4)
    entries = (first + 2 + 12 * index for index in range(number(first, 2)))
    return next((number(entry + 8, 2) for entry in entries if number(entry, 2) == 0x0112), 0)


def _png_wh(data: bytes) -> tuple[int, int]:
    """Width and height in a PNG's header."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _damage(data: bytes) -> str | None:
    """What is wrong with a JPEG or PNG that some decoders fill up with grey, saying nothing."""
    if data.startswith(JPEG):
        position = 2
        while (marker := _JPEG_MARKER.search(data, position)) is not None:
            if marker.group() == b"\xff\xd9":
                return None
            position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        return "truncated or damaged (its end mark is missing)"
    if data.startswith(PNG):
        position = 8
        while (length := int.from_bytes(data[position : position + 4], "big")) + position + 12 <= len(data):
            chunk = memoryview(data)[position + 4 : position + 8 + length]
            if crc32(chunk) != int.from_bytes(data[position + 8 + length : position + 12 + length], "big"):
                return "damaged (a checksum in it is wrong)"
            if bytes(chunk[:4]) == b"IEND":
                return None
            position += 12 + length
        return "truncated (its end mark is missing)"
    return None


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG or JPEG, by the path's suffix; whole or not at all."""
    try:
        written, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:  # OpenCV 4 raises where 5 answers False
        written = False
    if not written:
        raise EdgeposeError(f"{path}: a picture of {image.shape[1]}x{image.shape[0]} pixels cannot be written so")
    write_bytes(path, bytes(data))  # not cv2.imwrite: it says nothing when the disk is full
