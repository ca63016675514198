"""CUDA graphs by way of a stand-in driver: what is called, in which order, and what is left after a failure."""

from __future__ import annotations

import gc
import threading

import pytest

from edgepose.cuda import graphs
from edgepose.cuda.graphs import Graph, GraphError

STREAM = 0x1000


class Driver:
    """libcuda, as far as graphs.py calls it; each call's answer is 0, or what `refuse` says for it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuse: dict[str, int] = {}

    def __getattr__(self, name: str):
        def call(*arguments):
            self.calls.append(name)
            if name in self.refuse:
                return self.refuse[name]
            if name in ("cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
                made = arguments[1] if name == "cuStreamEndCapture" else arguments[0]
                made._obj.value = 0x77
            return 0

        return call


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(graphs, "load_driver", lambda: driver)
    return driver


def test_work_is_recorded_once_and_launched_as_often_as_asked(driver):
    graph = Graph(STREAM, lambda: driver.calls.append("work"))
    graph.launch(STREAM)
    graph.launch(STREAM)
    graph.close()
    graph.close()

    assert driver.calls == [
        "cuStreamBeginCapture_v2",
        "work",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


def test_a_recording_that_fails_is_ended_and_its_graph_freed(driver):
    def work() -> None:
        raise RuntimeError("no")

    with pytest.raises(GraphError, match="no"):
        Graph(STREAM, work)

    assert driver.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]
    assert graphs.recording.acquire(blocking=False)
    graphs.recording.release()


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_driver_that_refuses_is_named_with_its_answer(driver, call):
    driver.refuse[call] = 901

    with pytest.raises(GraphError, match=rf"{call} gave CUDA error 901"):
        Graph(STREAM, lambda: None)

    assert "cuGraphLaunch" not in driver.calls


def test_a_launch_that_is_refused_is_an_error(driver):
    graph = Graph(STREAM, lambda: None)
    driver.refuse["cuGraphLaunch"] = 719

    with pytest.raises(GraphError, match="719"):
        graph.launch(STREAM)


def test_no_two_threads_record_at_once(driver):
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.01)
        inside -= 1

    threads = [threading.Thread(target=Graph, args=(STREAM, work)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_a_stream_is_recorded(driver, enabled):
    seen = []
    if not enabled:
        gc.disable()

    try:
        Graph(STREAM, lambda: seen.append(gc.isenabled()))
        seen.append(gc.isenabled())
        with pytest.raises(GraphError):
            Graph(STREAM, lambda: 1 / 0)
        seen.append(gc.isenabled())
    finally:
        gc.enable()

    assert seen == [False, enabled, enabled]
