from __future__ import annotations

import errno
import hashlib
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from edgepose.errors import CheckpointError
from edgepose.export.checkpoints import download
from edgepose.export.checkpoints.download import cache_folder, fetch

CONTENT = np.random.default_rng(0).bytes(700_000)
PREFIX = hashlib.sha256(CONTENT).hexdigest()[:8]


class Server:
    """Serves CONTENT on this machine; can break off, refuse ranges and redirect. Notes the ranges asked for."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.break_after: int | None = None
        self.knows_ranges = self.says_size = True
        self.redirect_to: str | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.ranges.append(self.headers.get("Range"))
                start = 0
                if server.redirect_to:
                    self.send_response(302)
                    self.send_header("Location", server.redirect_to)
                    self.end_headers()
                    return
                if server.knows_ranges and (asked := self.headers.get("Range")):
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                    if start >= len(CONTENT):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                else:
                    self.send_response(200)
                if server.says_size:
                    self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                self.wfile.write(CONTENT[start : server.break_after])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/models/weights-{PREFIX}.pth"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server():
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def break_reading(patched: pytest.MonkeyPatch, error: BaseException) -> None:
    """The second piece of an answer does not come."""
    read, calls = HTTPResponse.read, []

    def broken(response: HTTPResponse, amount: int | None = None) -> bytes:
        calls.append(amount)
        if len(calls) == 2:
            raise error
        return read(response, amount)

    patched.setattr(HTTPResponse, "read", broken)


def test_fetches_once(server, tmp_path):
    path = fetch(server.url, PREFIX, tmp_path / "cache")
    again = fetch(server.url, PREFIX, tmp_path / "cache")

    assert path == again == tmp_path / "cache" / f"weights-{PREFIX}.pth"
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert list(path.parent.iterdir()) == [path]


def test_resumes_where_it_broke_off(server, tmp_path):
    server.break_after = 300_000
    with pytest.raises(CheckpointError, match="closed 400000 bytes early"):
        fetch(server.url, PREFIX, tmp_path)
    server.break_after = None

    path = fetch(server.url, PREFIX, tmp_path)

    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


@pytest.mark.parametrize(
    "error", [ssl.SSLError("record layer failure"), OSError(errno.EHOSTUNREACH, "No route to host"), TimeoutError()]
)
def test_a_connection_that_breaks_in_any_way_is_one_line_and_resumes(error, server, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        break_reading(patched, error)
        with pytest.raises(CheckpointError, match="Try again and it resumes") as caught:
            fetch(server.url, PREFIX, tmp_path)

    assert "\n" not in str(caught.value)
    assert fetch(server.url, PREFIX, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={1 << 18}-"]


def test_ctrl_c_keeps_what_was_fetched_and_says_so(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        break_reading(patched, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt, match="the next run resumes"):
            fetch(server.url, PREFIX, tmp_path)

    assert fetch(server.url, PREFIX, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={1 << 18}-"]


def test_a_full_disk_is_not_taken_for_a_broken_connection(server, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", full, raising=False)

    with pytest.raises(OSError, match="No space left"):
        fetch(server.url, PREFIX, tmp_path)


def test_starts_anew_where_the_server_knows_no_ranges(server, tmp_path):
    (tmp_path / f"weights-{PREFIX}.pth.part").write_bytes(b"x" * 1000)
    server.knows_ranges = False

    assert fetch(server.url, PREFIX, tmp_path).read_bytes() == CONTENT


def test_takes_a_part_that_is_already_whole(server, tmp_path):
    (tmp_path / f"weights-{PREFIX}.pth.part").write_bytes(CONTENT)

    assert fetch(server.url, PREFIX, tmp_path).read_bytes() == CONTENT


def test_refuses_and_removes_what_has_another_hash(server, tmp_path):
    with pytest.raises(CheckpointError, match=f"sha256 {PREFIX}.*wanted 00000000"):
        fetch(server.url, "00000000", tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_replaces_a_damaged_file_in_the_cache(server, tmp_path):
    (tmp_path / f"weights-{PREFIX}.pth").write_bytes(CONTENT[:-1])

    assert fetch(server.url, PREFIX, tmp_path).read_bytes() == CONTENT


def test_without_a_network_one_line_names_the_alternatives(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        fetch("http://127.0.0.1:9/weights.pth", PREFIX, tmp_path)  # nothing listens on the discard port

    message = str(caught.value)
    assert "\n" not in message
    for part in ("http://127.0.0.1:9/weights.pth", "--weights FILE", "--weights random"):
        assert part in message


@pytest.mark.parametrize("url", ["http://example.org/weights.pth", "file:///etc/passwd", "ftp://example.org/w.pth"])
def test_fetches_by_https_only(url, tmp_path):
    with pytest.raises(CheckpointError, match="https only"):
        fetch(url, PREFIX, tmp_path)


@pytest.mark.parametrize("target", ["http://example.org/weights.pth", "file:///etc/passwd"])
def test_is_not_redirected_away_from_https(server, target, tmp_path):
    server.redirect_to = target

    with pytest.raises(CheckpointError, match=r"https only|not allowed"):
        fetch(server.url, PREFIX, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"EDGEPOSE_CACHE": "/data/edgepose"}, "/data/edgepose"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/edgepose"),
        ("linux", {}, "/home/me/.cache/edgepose"),
        ("darwin", {}, "/home/me/Library/Caches/edgepose"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/edgepose/Cache"),
    ],
)
def test_the_cache_is_where_the_platform_has_it(platform, variables, expected, monkeypatch):
    for name in ("EDGEPOSE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))

    assert cache_folder() == Path(expected)


def test_two_downloads_of_one_file_at_once_fetch_it_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda _: fetch(server.url, PREFIX, tmp_path), range(4)))

    assert {path.read_bytes() for path in fetched} == {CONTENT}
    assert server.ranges == [None]
    assert list(tmp_path.iterdir()) == [fetched[0]]


def test_what_is_larger_than_the_limit_is_not_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_DOWNLOAD", len(CONTENT) - 1)

    with pytest.raises(CheckpointError, match="larger than"):
        fetch(server.url, PREFIX, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_what_does_not_say_its_size_is_fetched_up_to_the_limit(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_DOWNLOAD", len(CONTENT) - 1)
    server.says_size = False

    with pytest.raises(CheckpointError, match="larger than"):
        fetch(server.url, PREFIX, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["", "abcdef1", "ABCDEF12", "a" * 65])
def test_a_hash_too_short_to_tell_files_apart_is_refused(server, tmp_path, prefix):
    with pytest.raises(ValueError, match="8 to 64 hex digits"):
        fetch(server.url, prefix, tmp_path)

    assert server.ranges == []
