"""Files: hashes, and writing that leaves either the whole file or none."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from edgepose.errors import InputError
from edgepose.limits import LARGEST_INPUT, LEFTOVER_AGE


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_input(path: str | Path) -> bytes:
    """The content of a file that a user named.

    Raises:
        InputError: it is missing, empty, larger than LARGEST_INPUT, a pipe or a device, or cannot be read.
    """
    try:
        about = os.stat(path)
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):  # it might never end
            raise InputError(f"{path}: {why_no_file(path)}")
        with open(path, "rb") as file:
            data = file.read(LARGEST_INPUT + 1) if about.st_size <= LARGEST_INPUT else None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise InputError(f"{str(path)!r} cannot be a file's name ({error})") from error
    if data is None or len(data) > LARGEST_INPUT:
        raise InputError(
            f"{path}: larger than {LARGEST_INPUT >> 30} GiB, which is the most that is read: make it smaller"
        )
    if not data:
        raise InputError(f"{path}: the file is empty")
    return data


def why_no_file(path: str | Path, wanted: str = "a file") -> str:
    """What lies at a path that is no file's: a folder, a pipe or a device, or nothing."""
    if os.path.isdir(path):
        return f"a folder, {wanted} was wanted"
    return (
        f"a pipe or a device, {wanted} was wanted: save it to a file first" if os.path.exists(path) else "no such file"
    )


def parse_json(data: bytes, *, nan: bool = False) -> Any:
    """The value of a JSON text of which nothing can fail later: what is written is as good as what was read.

    Args:
        nan: allow NaN and infinities, which Python and others write, though JSON has none.

    Raises:
        ValueError: not UTF-8, not JSON, nested too deep, a number beyond float64, or half of a character (a surrogate).
    """
    text = data.decode(json.detect_encoding(data))
    try:
        value = json.loads(text, parse_constant=None if nan else _refuse)
        if _SUSPICIOUS.search(text):  # rarely, and reading takes four times as long so
            json.loads(text, parse_int=_check_finite, parse_float=_check_finite)
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a character, a lone surrogate, in a text") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


_SUSPICIOUS = re.compile(r"[0-9]{200}|[eE]\+?[0-9]{3}|\\u[dD][89a-fA-F]")


def _check_finite(text: str) -> None:
    if math.isinf(float(text)):
        raise ValueError(f"the number {text[:20]}… is beyond what a float holds")


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not a number")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder, or a file, while the body runs; other processes that ask for it wait. A file is made if need be.

    The lock goes with the process, however it ends. A file may be renamed or removed by who holds it.

    Raises:
        OSError: the path cannot be opened.
    """
    flags = os.O_RDONLY | (0 if path.is_dir() else os.O_CREAT)
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            with suppress(ImportError, OSError):  # Windows, and file systems without locks
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not (path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path))):
                continue  # who held it has renamed it
            yield
            return
        finally:
            os.close(descriptor)


_TEMPORARY = ".edgepose-"  # what temporary files and folders begin with; `cli` takes it out of messages
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
        _remove_leftovers(folder)
        # named before it is made, so that an interrupt leaves none; mkstemp's 0600 would hide it from other accounts
        temporary = folder / f"{_TEMPORARY}{secrets.token_hex(4)}{path.suffix if len(path.suffix) < 9 else ''}"
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


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder inside another, which must exist, to make files in that are then moved out of it; removed at the end."""
    _remove_leftovers(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=folder) as made:
            yield Path(made)
    except OSError as error:
        if error.filename is None and error.errno in _WRITING_FAILS:
            error.filename = str(folder)
        raise


@cache
def _remove_leftovers(folder: Path) -> None:
    """Remove, once a process, what earlier ones that were killed have left in a folder: by its name and its age."""
    with suppress(OSError):
        for path in folder.glob(f"{_TEMPORARY}*"):
            newest = max(each.lstat().st_mtime for each in (path, *path.glob("*")))
            if time.time() - newest < LEFTOVER_AGE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


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


def check_targets(folder: Path, names: Sequence[str]) -> None:
    """Whether files of these names can be put into the folder, asked before the long work; the folder need not exist.

    Raises:
        NotADirectoryError: the folder is a file.
        IsADirectoryError: in place of a file there is a folder, or a device.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    for target in (folder / name for name in names):
        if target.exists() and not target.is_file():
            raise IsADirectoryError(errno.EISDIR, f"in the way of a file ({os.strerror(errno.EISDIR)})", str(target))


def put_in_place(made: Path, folder: Path, names: Sequence[str]) -> None:
    """Move files of the folder `made` to another on the same disk, in this order, over those that are there.

    Raises:
        OSError: one cannot be moved; the others are taken back.
    """
    check_targets(folder, names)
    with temporary_folder(folder) as kept:
        for name in names:
            if (folder / name).is_file():
                _copy(folder / name, kept / name)
        try:
            for name in names:
                os.replace(made / name, folder / name)
        except BaseException:
            for name in names:
                if (kept / name).is_file():
                    os.replace(kept / name, folder / name)
                elif not (made / name).exists():  # it has been moved
                    (folder / name).unlink(missing_ok=True)
            raise


def _copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # no bytes are copied
    except OSError:  # a file system without links
        shutil.copy2(source, target)
