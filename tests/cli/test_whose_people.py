"""`calibrate` and `sensitivity` say that the small detector found the people when it has, and not before an error."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.cli.source_options import calibration_people
from edgepose.errors import EdgeposeError
from edgepose.export.pipeline import export_model
from edgepose.export.zoo.find import find_model

NOTE = "the small detector that comes along"


@pytest.mark.parametrize("command", [["calibrate", "--model"], ["sensitivity"]])
def test_nothing_is_said_of_people_where_there_are_no_images(command, tmp_path):
    exported = export_model(find_model("simplebaseline_tiny"), tmp_path)

    result = CliRunner().invoke(main, [*command, str(exported.fp32), "--images", str(tmp_path / "none")])

    assert result.exit_code != 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert NOTE not in result.stderr


@pytest.mark.parametrize(("boxes", "told"), [(None, True), ("whole", False)])
def test_who_found_the_people_is_said_afterwards(boxes, told, capsys):
    with calibration_people(boxes, None):
        assert not capsys.readouterr().err

    assert (NOTE in capsys.readouterr().err) is told


def test_an_error_is_told_alone(capsys):
    with pytest.raises(EdgeposeError), calibration_people(None, None):
        raise EdgeposeError("no image")

    assert not capsys.readouterr().err
