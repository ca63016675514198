"""Published checkpoints into a cache: resumed where they broke off, and checked by their sha256 before use."""

from __future__ import annotations

import os
import re
import sys
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click

from edgepose.errors import CheckpointError
from edgepose.files import locked, sha256_of
from edgepose.limits import LARGEST_DOWNLOAD

TIMEOUT_S = 30
_CHUNK = 1 << 18
_RANGE_NOT_SATISFIABLE = 416


def cache_folder() -> Path:
    """`$EDGEPOSE_CACHE`, or the place where this platform keeps caches."""
    if chosen := os.environ.get("EDGEPOSE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "edgepose" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edgepose"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepose"


def fetch(url: str, sha256_prefix: str, folder: Path) -> Path:
    """The file behind `url`, from `folder` if it is there and whole, else from the network.

    What was fetched before a break, Ctrl-C included, lies in a `.part` file and is not fetched again.

    Args:
        url: https; http only from this machine itself.
        sha256_prefix: first hex digits of the file's sha256.

    Raises:
        CheckpointError: there is no network, or the file's sha256 is another.
    """
    _require_secure(url)
    if not re.fullmatch("[0-9a-f]{8,64}", sha256_prefix):
        raise ValueError(f"sha256_prefix must be 8 to 64 hex digits, got {sha256_prefix!r}")
    target = folder / Path(urlsplit(url).path).name
    if _is_whole(target, sha256_prefix):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with locked(part):
        try:
            if not _is_whole(target, sha256_prefix):  # else who held the lock before has fetched it
                _fetch_part(url, part, sha256_prefix)
                os.replace(part, target)
        finally:
            if part.is_file() and part.stat().st_size == 0:  # made for the lock
                part.unlink()
    return target


def _is_whole(path: Path, sha256_prefix: str) -> bool:
    return path.is_file() and sha256_of(path).startswith(sha256_prefix)


def _fetch_part(url: str, part: Path, sha256_prefix: str) -> None:
    """Fetch what is missing of the file, and check it."""
    try:
        _download(url, part)
    except (URLError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise CheckpointError(
            f"cannot fetch {url} ({cause}). Try again and it resumes; or fetch it by other means and give it with "
            f"--weights FILE; or use --weights random, which is for timing only"
        ) from error
    found = sha256_of(part)
    if not found.startswith(sha256_prefix):
        part.unlink()
        raise CheckpointError(
            f"{url} came with sha256 {found[:16]}…, wanted {sha256_prefix}…: it was damaged on the way or replaced at "
            f"the source, and has been removed; try again, or give a file of your own with --weights FILE"
        )


def _download(url: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={"User-Agent": "edgepose", **({"Range": f"bytes={have}-"} if have else {})})
    try:
        response: HTTPResponse = build_opener(_SecureRedirects).open(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if have and error.code == _RANGE_NOT_SATISFIABLE:
            return  # nothing is missing, or the part is no part of this file: the sha256 tells
        raise
    except OSError as error:  # URLError, and what the handshake and the answer's head may raise besides
        raise URLError(getattr(error, "reason", error)) from error
    with response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        missing = int(length) if length.isdecimal() else 0
        if have + missing > LARGEST_DOWNLOAD:
            raise _too_large(url)
        with (
            open(part, "ab" if resumed else "wb") as file,
            click.progressbar(length=have + missing, label=f"fetching {part.stem}", file=sys.stderr) as bar,
        ):
            bar.update(have)
            while chunk := _read(response):
                if file.tell() + len(chunk) > LARGEST_DOWNLOAD:
                    os.truncate(part, 0)
                    raise _too_large(url)
                file.write(chunk)
                bar.update(len(chunk))
                missing -= len(chunk)
        if missing > 0:
            raise HTTPException(f"the connection closed {missing} bytes early")


def _too_large(url: str) -> CheckpointError:
    return CheckpointError(
        f"{url} is larger than {LARGEST_DOWNLOAD >> 30} GiB, the most that is fetched: fetch it by other means and "
        f"give it with --weights FILE"
    )


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except OSError as error:  # TLS, routing, a reset; an OSError of the file is no such thing
        raise URLError(error) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt("while fetching weights: the next run resumes") from None


def _require_secure(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
        raise CheckpointError(f"{url} is not an https address; weights are fetched by https only")


class _SecureRedirects(HTTPRedirectHandler):
    """Follows a redirect only to where `fetch` would have gone itself."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        _require_secure(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
