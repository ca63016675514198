"""Several processes that write one file."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgepose.evaluation import report
from edgepose.evaluation.accuracy import Evaluation
from edgepose.evaluation.evaluate import evaluate
from edgepose.evaluation.report import record_accuracy
from edgepose.files import locked
from edgepose.model.passport import read_passport
from tests.faults.conftest import annotate, change_passport, run, start, thorough

pytest.importorskip("openvino")


def measured(toy: Path, picture: Path) -> Evaluation:
    return evaluate([toy], picture.parent, annotate(toy.parent, {"file_name": "a.png"}), backend="openvino")


def test_what_several_measure_at_once_is_all_in_the_passport(toy, picture, monkeypatch):
    result = measured(toy, picture)
    read = report.read_passport

    def slowly(model: Path):
        passport = read(model)
        time.sleep(0.02)  # the others read as well, unless they wait
        return passport

    monkeypatch.setattr(report, "read_passport", slowly)

    with ThreadPoolExecutor(6) as pool:
        runs = [replace(result, conditions={**result.conditions, "boxes": str(index)}) for index in range(6)]
        list(pool.map(record_accuracy, runs))

    assert sorted(entry["boxes"] for entry in read_passport(toy).accuracy) == list("012345")


@thorough
def test_six_processes_that_evaluate_one_model_keep_six_accuracies(toy, picture):
    sets = []
    for index in range(6):
        (toy.parent / str(index)).mkdir()
        sets.append(annotate(toy.parent / str(index), {"id": index, "file_name": "a.png"}))

    running = [start("evaluate", "--engine", toy, "--images", picture.parent, "--annotations", each) for each in sets]

    assert [process.wait(timeout=120) for process in running] == [0] * 6
    assert len(read_passport(toy).accuracy) == 6


def test_figures_of_a_model_that_was_exchanged_meanwhile_are_printed_and_not_noted(toy, picture, monkeypatch):
    from tests.makers import write_toy_model

    record = report.record_accuracy

    def exchanged(result: Evaluation) -> None:
        write_toy_model(toy, batch=1)
        record(result)

    monkeypatch.setattr(report, "record_accuracy", exchanged)
    data = annotate(toy.parent, {"file_name": "a.png"})

    result = run("evaluate", "--engine", toy, "--images", picture.parent, "--annotations", data)

    assert result.exit_code == 0
    assert "exchanged" in result.stderr
    assert "AP50" in result.stdout
    assert read_passport(toy).accuracy == []


def test_a_passport_damaged_meanwhile_takes_no_figures_with_it(toy, picture, monkeypatch):
    record = report.record_accuracy

    def damaged(result: Evaluation) -> None:
        change_passport(toy, precision="fp33")
        record(result)

    monkeypatch.setattr(report, "record_accuracy", damaged)
    data = annotate(toy.parent, {"file_name": "a.png"})

    result = run("evaluate", "--engine", toy, "--images", picture.parent, "--annotations", data)

    assert result.exit_code == 0
    assert "fp33" in result.stderr
    assert "AP50" in result.stdout


def test_a_second_holder_of_a_file_waits_and_gets_the_file_that_is_there_then(tmp_path):
    path, order = tmp_path / "a", []

    def second() -> None:
        with locked(path):
            path.touch()
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
        path.rename(tmp_path / "b")
    thread.join(timeout=10)

    assert order == ["first", "second"]
    assert path.exists()
