from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.io.window import Window

NO_KEY = -1
IMAGE = np.full((4, 6, 3), (255, 0, 0), np.uint8)  # RGB


class Screen:
    """What OpenCV's windows were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, modules: Path) -> None:
        self.shown: dict[str, np.ndarray | None] = {}
        self.key = NO_KEY
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(cv2, "namedWindow", lambda name, _: self.shown.update({name: None}))
        monkeypatch.setattr(cv2, "imshow", lambda name, image: self.shown.update({name: image}))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.key)
        monkeypatch.setattr(cv2, "destroyAllWindows", self.shown.clear)
        another_opencv(monkeypatch, modules, "")


def another_opencv(monkeypatch: pytest.MonkeyPatch, modules: Path, does: str) -> None:
    """Another process's OpenCV, whose `namedWindow` does this."""
    (modules / "cv2.py").write_text(f"import os\nWINDOW_NORMAL = 0\ndef namedWindow(*_):\n    {does or 'pass'}\n")
    monkeypatch.setenv("PYTHONPATH", str(modules))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Screen:
    return Screen(monkeypatch, tmp_path)


def test_each_source_is_shown_in_its_own_window_and_in_its_colours(screen: Screen):
    window = Window(["door", "yard"])

    window.show(1, IMAGE, {})

    first, second = screen.shown.values()
    assert first is None
    assert second is not None
    assert second[0, 0].tolist() == [0, 0, 255]  # BGR


@pytest.mark.parametrize("key", [ord("q"), 27, 27 + 0x100000])  # some toolkits set bits above the lowest byte
def test_q_and_escape_end_the_run_as_ctrl_c_does(screen: Screen, key: int):
    window = Window(["door"])
    screen.key = key

    with pytest.raises(KeyboardInterrupt):
        window.show(0, IMAGE, {})


def test_closed_no_window_stays(screen: Screen):
    window = Window(["door"])
    assert screen.shown

    window.close()

    assert not screen.shown


def test_an_opencv_without_windows_is_told_in_one_line_that_names_the_cure(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise cv2.error("The function is not implemented.\nRebuild the library")

    monkeypatch.setattr(cv2, "namedWindow", refuse)

    with pytest.raises(InputError, match=r"no window can be shown: .* use --serve and a browser") as told:
        Window(["door"])

    assert "\n" not in str(told.value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a display is not named by the environment")
def test_without_a_display_opencv_is_not_asked_for_a_window_since_its_qt_ends_the_process(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    with pytest.raises(InputError, match="there is no display"):
        Window(["door"])

    assert not screen.shown


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a display is not named by the environment")
def test_a_display_that_ends_whoever_asks_it_for_a_window_is_named_and_the_run_lives_on(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    another_opencv(monkeypatch, tmp_path, "os.abort()")

    with pytest.raises(InputError, match=r"no window can be shown: .*--serve.*\(DISPLAY=:77 opened none\)"):
        Window(["door"])

    assert not screen.shown
