"""Files: hashes, and writing that leaves either the whole file or none."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


_WRITING_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # Python names no file for what ends a write


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; rename it to `path` if the body succeeds, else remove it.

    The temporary name keeps `path`'s suffix, since image and video writers choose their format by it. Where `path` is
    a link, the file that it leads to is written; a device or pipe is written to at the end, and stays what it is.

    Raises:
        OSError: the file cannot be written; it names `path`, not the temporary file.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) and not _is_special(path) else Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    special = _is_special(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.gettempdir()) if special else path.parent
        # named before it is made, so that an interrupt leaves none; mkstemp's 0600 would hide it from other accounts
        temporary = folder / f".{path.stem}.{secrets.token_hex(4)}{path.suffix}"
        temporary.touch(exist_ok=False)
        yield temporary
        if special:
            with open(temporary, "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        else:
            os.replace(temporary, path)
    except OSError as error:
        unnamed = error.filename is None and error.errno in _WRITING_FAILS
        if temporary is None or unnamed or error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary is not None:
            with suppress(OSError):  # it may not have been made
                temporary.unlink()


def _is_special(path: Path) -> bool:
    """True for a device, pipe or socket."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON to `path`, whole or not at all; NaN is a ValueError."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())
