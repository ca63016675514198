"""The stopwatch belongs to whoever measures."""

from __future__ import annotations

from edgepose.timing import StageTimes, add_seconds, measured, stage


def test_nobody_measures_and_nothing_is_kept():
    with stage("crop"):
        pass
    add_seconds([("crop", 1.0)])

    with measured() as times:
        pass

    assert times.seconds == {}


def test_stages_of_all_that_is_called_are_added_up(monkeypatch):
    moments = iter(range(10))
    monkeypatch.setattr("edgepose.timing.perf_counter", lambda: next(moments))

    with measured() as times:
        for _ in range(2):
            with stage("crop"):
                pass
        add_seconds([("network", 0.5), ("crop", 1.0)])

    assert times.seconds == {"crop": 3.0, "network": 0.5}


def test_an_inner_measurement_has_its_own_stages():
    outer = StageTimes()
    with measured(outer):
        with measured() as inner:
            add_seconds([("crop", 1.0)])
        add_seconds([("decode", 1.0)])

    assert (outer.seconds, inner.seconds) == ({"decode": 1.0}, {"crop": 1.0})
