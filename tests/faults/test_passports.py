"""Passports from elsewhere: what they name, and what they hold, is checked when they are read."""

from __future__ import annotations

import sys

import pytest

from tests.faults.conftest import assert_refused, change_passport, run
from tests.makers import make_engine


@pytest.mark.parametrize("command", ["inspect", "infer", "build"])
def test_a_module_that_a_passport_names_is_not_imported(toy, tmp_path, monkeypatch, command):
    (tmp_path / "from_elsewhere.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    plan = toy.rename(toy.with_name("m.plan"))
    toy.with_name("m.onnx.json").rename(toy.with_name("m.plan.json"))
    change_passport(plan, engine=make_engine(runtime="from_elsewhere", kernels=None))
    arguments = {"infer": ["--engine", plan, "--input", tmp_path / "a.png"]}.get(command, [plan])
    (tmp_path / "a.png").touch()

    result = run(command, *arguments)

    assert_refused(result, "'from_elsewhere'", "tensorrt, tensorrt_rtx")
    assert "from_elsewhere" not in sys.modules
