"""calibrate --report, on a toy network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.model.passport import read_passport, write_passport
from tests.calibration.graphs import mobile_network, toy_spec, write_model
from tests.makers import smooth_image

pytest.importorskip("openvino")
pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A report of a search, whose budget nothing meets, and what it was made from."""
    folder = tmp_path_factory.mktemp("report")
    for seed in range(12):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    path = write_model(folder, mobile_network())
    write_passport(path, replace(read_passport(path), spec=toy_spec().changed(decoder="dark")))
    arguments = ["--budget", "0.0000001px", "--method", "mse", "--report", folder / "out.html"]
    fixed = ["calibrate", "--images", folder / "*.png", "--model", folder / "toy.onnx", "--boxes", "whole"]
    result = CliRunner().invoke(main, [*map(str, [*fixed, *arguments])])
    assert result.exit_code == 1, result.output
    return folder


@pytest.fixture(scope="module")
def told(folder) -> dict:
    return json.loads((folder / "out.json").read_text())


def test_each_file_has_a_row_and_fp32_loses_nothing(told):
    rows = {row["name"]: row for row in told["files"]}

    assert list(rows) == ["FP32", "INT8, the usual layers", "INT8, the chosen mix"]  # there is no FP16 file
    assert rows["FP32"]["mean"] == rows["FP32"]["p95"] == 0
    assert rows["INT8, the usual layers"]["mean"] > 0
    assert rows["INT8, the chosen mix"]["int8_share"] < rows["INT8, the usual layers"]["int8_share"]


def test_what_was_tried_is_told_and_one_is_chosen(told):
    assert len(told["trials"]) > 2
    assert [trial["chosen"] for trial in told["trials"]].count(True) == 1


def test_the_worst_people_come_first_and_were_held_out(folder, told):
    shifts = [person["shift_px"] for person in told["worst"]]

    assert shifts == sorted(shifts, reverse=True)
    assert len(shifts) == told["people"] == 4  # a third of 12 images of a person each


def test_the_page_is_whole_and_loads_nothing(folder):
    page = (folder / "out.html").read_text(encoding="utf-8")
    sources: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))

    Links().feed(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))

    assert len(sources) == 4
    assert all(source.startswith("data:image/jpeg") for source in sources)
    assert page.count("Plotly.newPlot(") >= 3
    for heading in ("What each file costs", "The mixes that were tried", "Which layers cost it", "moved most"):
        assert heading in page
