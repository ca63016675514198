"""What docs/first_contact.md shows is what the commands print, line by line, on a stand-in device."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.evaluation import best, verify
from edgepose.files import sha256_of
from edgepose.io.images import write_image
from edgepose.model.computes import Computes
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.trt.build import BuildReport
from edgepose.trt.interleaving import MOVED
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import dots_image, dots_spec, write_toy_model
from tests.nvcc import needs_nvcc

pytest.importorskip("openvino")
PAGE = (Path(__file__).parents[2] / "docs" / "first_contact.md").read_text(encoding="utf-8")
SPEC = dots_spec()
NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]\d+)?")


def shown(step: int) -> list[str]:
    """The lines of a step's text block, but those that leave all out."""
    block = PAGE.split(f"\n## {step}. ")[1].split("\n## ")[0].split("```text\n")[1].split("```")[0]
    return [line for line in block.splitlines() if line.strip() != "…"]


def plain(line: str) -> str:
    """With one blank for several, and numbers as #; an ellipsis stays."""
    return NUMBER.sub("#", " ".join(line.split())).replace("#%", "#").replace("Fake Orin", "Orin")


def not_printed(step: int, printed: str) -> list[str]:
    """Lines of a step that are shown, and that no line of what was printed fits; their order is looked at too."""
    rest, missing = iter([plain(line) for line in printed.splitlines()]), []
    for line in shown(step):
        pattern = re.escape(plain(line)).replace("…%", "…").replace("…", ".*")
        if not any(re.fullmatch(pattern, each) for each in rest):
            missing.append(line)
    return missing


@needs_nvcc
def test_build_best_and_verify_print_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("people").mkdir()
    write_image(Path("people/p.png"), dots_image((8, 20), (28, 40)))
    for name, precision in (("m", "fp32"), ("m.fp16", "fp16"), ("m.int8", "int8")):
        onnx = write_toy_model(Path(f"{name}.onnx"), SPEC, batch="N")
        write_passport(onnx, Passport(SPEC, precision, sha256_of(onnx), "toy"))

    def build(source, plan, options, *, runtime, progress):
        path = write_plan_of(source, plan, SPEC, max_batch=3)
        built, precision = read_passport(path), read_passport(source).precision
        name = precision.upper()
        computes = Computes({name: 1.0}, {name: 1.0}, layers=60)
        write_passport(path, replace(built, precision=precision, engine=replace(built.plan, computes=computes)))
        return BuildReport(path, read_passport(path), (), 1)

    monkeypatch.setattr("edgepose.trt.build.build_engine", build)
    monkeypatch.setattr(best, "measure_candidates", partial(best.measure_candidates, seconds=0.01))
    monkeypatch.setattr(verify, "verify_plan", partial(verify.verify_plan, repeats=2))
    with fake_device():
        kept = CliRunner().invoke(main, ["build", "m.onnx", "--best", "--images", "people/"])
        seen = CliRunner().invoke(main, ["verify", "m.plan", "--images", "people/", "--repeats", "2"])

    precision = read_passport(Path("m.plan")).precision
    assert not_printed(2, re.sub("m.(fp16|int8).onnx, the", "m.int8.onnx, the", kept.stdout)) == []
    assert not_printed(3, re.sub(precision, "FP16", seen.stdout, flags=re.IGNORECASE)) == []


def test_a_line_that_is_not_printed_is_found():
    assert not_printed(2, "") == shown(2)
    assert len(shown(3)) > 8


def test_the_warnings_that_the_page_quotes_are_those_of_the_code():
    assert f"warning: {MOVED}".startswith(re.findall(r"`(warning: this TensorRT[^`]*) …`", PAGE)[0])
    (quoted,) = re.findall(r"`warning: (TensorRT did not[^`]*)`", PAGE)
    build = (Path(__file__).parents[2] / "edgepose" / "trt" / "build.py").read_text(encoding="utf-8")
    assert quoted in build
