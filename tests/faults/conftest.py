"""What the fault tests share: a toy model, a picture, and `edgepose` as a process of its own.

`make test` runs a fast share, most of it inside this process; the tests marked `thorough` run in `make test-all`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgepose.cli import main
from edgepose.files import write_json
from edgepose.model.passport import passport_path
from tests.makers import dots_image, write_toy_model

BEGIN = "from edgepose.__main__ import main; main()"

thorough = pytest.mark.skipif(not os.environ.get("EDGEPOSE_TEST_ALL"), reason="one of the long ones: make test-all")


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    """One command, inside this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def start(*arguments: object, code: str = BEGIN, **options: Any) -> subprocess.Popen[str]:
    """One command, as a process of its own that nobody waits for; `code` begins it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], **pipes)


def assert_refused(result: Result, *words: str, status: int = 1) -> None:
    """The contract of an error: one line, with the words, and no traceback."""
    assert (result.exit_code, len(result.stderr.splitlines())) == (status, 1), result.output
    for word in words:
        assert word in result.stderr


def change_passport(model: Path, **changes: Any) -> None:
    """Write a passport's entries anew, whatever they are; NaN and huge numbers as Python writes them."""
    path = passport_path(model)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def annotate(folder: Path, *images: dict[str, Any], **changes: Any) -> Path:
    """COCO annotations of the toy's two key points: one person in each of the images."""
    listed = [{"id": index, "width": 48, "height": 64, **image} for index, image in enumerate(images)]
    person = {"category_id": 1, "bbox": [0, 0, 48, 64], "area": 3072, "keypoints": [8, 20, 2, 28, 40, 2]}
    data = {
        "images": listed,
        "annotations": [{"id": image["id"], "image_id": image["id"], **person} for image in listed],
        "categories": [{"id": 1, "name": "person", "keypoints": ["left_hand", "right_hand"]}],
    }
    write_json(folder / "annotations.json", {**data, **changes})
    return folder / "annotations.json"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A whole model with its passport, in a folder of its own."""
    (tmp_path / "model").mkdir()
    return write_toy_model(tmp_path / "model" / "m.onnx")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A 64x48 picture of the toy's person, in a folder of its own."""
    from edgepose.io.images import write_image

    (tmp_path / "pictures").mkdir()
    write_image(tmp_path / "pictures" / "a.png", dots_image((8, 20), (28, 40)))
    return tmp_path / "pictures" / "a.png"
