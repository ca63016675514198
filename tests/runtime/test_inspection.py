"""edgepose inspect and edgepose doctor."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgepose import inspection
from edgepose.cli import main
from edgepose.cuda.driver import Gpu
from edgepose.errors import BackendError
from edgepose.files import sha256_of
from edgepose.inspection import examine
from edgepose.passport import Passport, write_passport
from tests.makers import make_spec


def passported_file(folder, **changes):
    path = folder / "m.onnx"
    path.write_bytes(b"an ONNX file")
    values = {"spec": make_spec(), "precision": "fp32", "sha256": sha256_of(path), "weights": "pose.pth"}
    write_passport(path, Passport(**{**values, **changes}))
    return path


def finding(findings, name):
    return next(item for item in findings if item.name == name)


def test_inspect_says_how_a_model_is_fed_and_read(tmp_path):
    path = passported_file(
        tmp_path,
        made_from={"source.onnx": "ab" * 32},
        accuracy=[{"data": "toy", "AP": 0.51234567}],
        engine={"runtime": "tensorrt", "targets": ["sm_87"]},
    )

    result = CliRunner().invoke(main, ["inspect", str(path)])

    assert result.exit_code == 0, result.output
    for part in ("64x48 RGB", "16x12", "left_hand, right_hand", "quarter (joint", "source.onnx", "AP 0.5123", "sm_87"):
        assert part in result.stdout


def test_inspect_names_random_weights(tmp_path):
    path = passported_file(tmp_path, weights="random")

    assert "timing only" in CliRunner().invoke(main, ["inspect", str(path)]).stdout


def test_inspect_json_is_the_passport(tmp_path):
    path = passported_file(tmp_path)

    result = CliRunner().invoke(main, ["inspect", str(path), "--json"])

    assert json.loads(result.stdout) == json.loads((tmp_path / "m.onnx.json").read_text())


def test_inspect_refuses_the_passport_of_another_file(tmp_path):
    path = passported_file(tmp_path)
    path.write_bytes(b"another file")

    result = CliRunner().invoke(main, ["inspect", str(path)])

    assert result.exit_code == 1
    assert "belongs to another file" in result.stderr


def test_doctor_reads_a_jetson_release(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n"
    )
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin Nano\0")

    found = examine(tmp_path)

    assert finding(found, "jetson").found == "NVIDIA Jetson Orin Nano, Jetson Linux 36.4.3"
    assert finding(found, "power mode").name == "power mode"


def test_doctor_describes_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "find_gpu", lambda: Gpu("Orin", (8, 7), 16, True, (12, 6)))

    found = examine(tmp_path)

    assert finding(found, "gpu").found == "Orin, sm_87, 16 SMs, integrated"
    assert finding(found, "driver").found == "CUDA up to 12.6"


def test_doctor_survives_a_broken_driver(tmp_path, monkeypatch):
    def broken() -> None:
        raise BackendError("the CUDA driver answered cuDeviceGet with error 999")

    monkeypatch.setattr(inspection, "find_gpu", broken)

    assert "999" in finding(examine(tmp_path), "gpu").mend


@pytest.mark.parametrize(
    ("source", "expected"),
    [("raise ImportError('libnvinfer.so.10: cannot open')", "does not load"), ("import os; os.abort()", "status")],
)
def test_doctor_tells_a_package_that_breaks_from_one_that_is_absent(tmp_path, monkeypatch, source, expected):
    (tmp_path / "tensorrt.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    assert expected in finding(examine(tmp_path), "tensorrt").mend


def test_every_lack_comes_with_its_cure_or_needs_none():
    findings = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)

    assert {item["name"] for item in findings} >= {"python", "gpu", "nvcc", "tensorrt", "opencv"}
    assert all(item["found"] or item["mend"] or item["name"] == "jetson" for item in findings)
