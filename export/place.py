"""Several files into a folder: all of them, or none and everything as it was."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path


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
    with tempfile.TemporaryDirectory(prefix=".edgepose-", dir=folder) as kept:
        for name in names:
            if (folder / name).is_file():
                _copy(folder / name, Path(kept) / name)
        try:
            for name in names:
                os.replace(made / name, folder / name)
        except BaseException:
            for name in names:
                if (Path(kept) / name).is_file():
                    os.replace(Path(kept) / name, folder / name)
                elif not (made / name).exists():  # it has been moved
                    (folder / name).unlink(missing_ok=True)
            raise


def _copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # no bytes are copied
    except OSError:  # a file system without links
        shutil.copy2(source, target)
