"""Streams over HTTP, as edgepose serves one, and over RTSP, that are cut and come back."""

from __future__ import annotations

import threading
from contextlib import closing

import cv2
import numpy as np
import pytest

from edgepose.io import sources
from edgepose.io.prefetch import Prefetch
from edgepose.io.serve import PictureServer
from edgepose.io.sources import CaptureSource, Shot, open_source
from edgepose.stages.gpu_frame import on_cpu
from tests.io.rtsp import RtspServer


class Broadcast:
    """A server that shows grey pictures, one after the other, until it is cut."""

    def __init__(self, grey: int, port: int = 0) -> None:
        self.server = PictureServer(["test"], port=port)
        self.port = self.server.port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, args=(np.full((64, 96, 3), grey, np.uint8),), daemon=True)
        self._thread.start()

    def _show(self, picture: np.ndarray) -> None:
        while not self._stop.wait(0.01):
            self.server.show(0, picture, {"people": 0, "fps": 1.0, "frame": 0})

    def cut(self) -> None:
        self._stop.set()
        self._thread.join()
        self.server.close()


def broadcast(scheme: str, grey: int, port: int = 0) -> Broadcast | RtspServer:
    return Broadcast(grey, port) if scheme == "http" else RtspServer(grey, port)


@pytest.mark.skipif(cv2.CAP_FFMPEG not in cv2.videoio_registry.getBackends(), reason="this OpenCV has no FFmpeg")
@pytest.mark.parametrize("reader", ["pyav", "opencv"])
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_stream_that_is_cut_and_comes_back_goes_on(scheme: str, reader: str, monkeypatch: pytest.MonkeyPatch):
    if reader == "pyav" or scheme == "rtsp":  # which encodes the stream as well
        pytest.importorskip("av")
    monkeypatch.setattr(sources, "has_pyav", lambda: reader == "pyav")
    first = broadcast(scheme, 40)
    source = open_source(f"{scheme}://127.0.0.1:{first.port}/stream?source=0")
    assert isinstance(source, CaptureSource)
    source._back_off_s = (0.05,) * 40
    shots: list[Shot] = []

    with closing(source), closing(Prefetch(iter(source), drop=True)) as frames:
        iterator = iter(frames)
        shots += [next(iterator) for _ in range(3)]
        first.cut()
        second = broadcast(scheme, 200, first.port)
        while on_cpu(shots[-1].image).mean() < 150:
            shots.append(next(iterator))
        source.close()
        second.cut()

    assert [shot.index for shot in shots] == sorted({shot.index for shot in shots})
    assert abs(float(on_cpu(shots[0].image).mean()) - 40) < 3
    assert len(source.notes) == 1
    assert "broke off after frame" in source.notes[0]
