from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.io.overlay import RIGHT
from edgepose.io.serve import PictureServer
from edgepose.io.space import for_page
from tests.makers import TWO_POINTS

PICTURE = np.full((48, 64, 3), (255, 0, 0), np.uint8)


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with closing(PictureServer(["a.mp4", "<b>"], port=0)) as running:
        yield running


def read(url: str, **headers: str) -> bytes:
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return answer.read()


def test_the_page_shows_every_source_and_escapes_its_name(server: PictureServer):
    page = read(server.url).decode()

    assert 'src="stream?source=0"' in page
    assert 'src="stream?source=1"' in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_the_status_is_what_was_shown_last(server: PictureServer):
    server.show(1, PICTURE, {"people": 3, "fps": 12.5, "frame": 7})

    status = json.loads(read(f"{server.url}status"))

    assert status["sources"][1] == {"name": "<b>", "people": 3, "fps": 12.5, "frame": 7}


def test_positions_are_told_to_the_page_and_turn_on_it(server: PictureServer):
    xyz = np.zeros((1, 2, 3), np.float32)
    xyz[0, 1] = (0.25, np.nan, 1)

    server.show(0, PICTURE, {"people": 1, "fps": 1.0, "frame": 0, "space": for_page(xyz, TWO_POINTS)})

    space = json.loads(read(f"{server.url}status"))["sources"][0]["space"]
    assert space == {"people": [[[0, 0, 0], None]], "limbs": [[0, 1, "rgb({}, {}, {})".format(*RIGHT)]], "ids": []}
    several = np.stack([xyz[0], np.full((2, 3), np.nan, np.float32), xyz[0]])
    assert for_page(several, TWO_POINTS, np.array([4, 7, 9]))["ids"] == [4, 9]  # of those who have positions
    assert for_page(xyz[:0], TWO_POINTS)["people"] == []
    page = read(server.url).decode()
    assert page.count("<canvas") == 2
    assert "function drawSpace(canvas, space) {" in page


def test_a_stream_gives_the_pictures_and_ends_with_the_server(server: PictureServer):
    server.show(0, PICTURE, {"people": 0, "fps": 1.0, "frame": 0})

    with urlopen(f"{server.url}stream?source=0", timeout=10) as stream:
        assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        head = [stream.readline() for _ in range(4)]
        jpeg = stream.read(int(head[2].split(b":")[1]))
        server.close()
        stream.read()

    blue, green, red = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[24, 32]
    assert (red > 200, green < 40, blue < 40) == (True, True, True)


@pytest.mark.parametrize("path", ["stream?source=2", "stream?source=-1", "stream?source=x", "nothing", "../etc/passwd"])
def test_what_is_not_there_is_not_found(server: PictureServer, path: str):
    with pytest.raises(HTTPError, match="404"):
        read(f"{server.url}{path}")


def test_a_token_is_asked_for():
    with closing(PictureServer(["a"], port=0, token="sesame")) as server:
        base = f"http://127.0.0.1:{server.port}/"

        assert b"token=sesame" in read(server.url)
        assert read(f"{base}status", Authorization="Bearer sesame")
        for url in (base, f"{base}?token=wrong", f"{base}stream?source=0"):
            with pytest.raises(HTTPError, match="403"):
                read(url)


def test_a_page_elsewhere_that_leads_its_name_here_reads_nothing(server: PictureServer):
    with pytest.raises(HTTPError, match="403"):
        read(f"{server.url}status", Host=f"evil.example:{server.port}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "camera.local"])
def test_others_watch_with_a_token_only(host: str):
    with pytest.raises(InputError, match=f"--serve on {host} lets others watch: give a --token"):
        PictureServer(["a"], host=host, port=0)


def test_a_port_in_use_is_one_line(server: PictureServer):
    with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1:{server.port}: Address already in use"):
        PictureServer(["a"], port=server.port)


BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


@pytest.mark.skipif(not BROWSER, reason="wants Chromium or Chrome")
def test_a_browser_shows_the_newest_picture_and_what_is_known_of_it(server: PictureServer, tmp_path: Path):
    shot, ended = tmp_path / "page.png", threading.Event()

    def show() -> None:
        while not ended.wait(0.2):
            for source in (0, 1):
                server.show(source, np.full((240, 320, 3), (255, 0, 0), np.uint8), {"people": 3, "fps": 9, "frame": 7})

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,700", "--timeout=5000"]

    threading.Thread(target=show, daemon=True).start()
    command = [BROWSER, *options, f"--user-data-dir={tmp_path}", f"--screenshot={shot}", server.url]
    subprocess.run(command, capture_output=True, timeout=120, check=False)
    ended.set()

    pixels = cv2.imread(str(shot))[..., ::-1].astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    assert red.sum() == pytest.approx(2 * 320 * 240, rel=0.02)  # JPEG blurs edges
    below = pixels[np.flatnonzero(red.any(axis=1))[-1] + 1 :]
    assert (below.min(axis=2) > 150).any()  # the line of people, frames a second and frame is light on dark
