from pathlib import Path

import numpy as np
import pytest

from edgepose.benchmarks.studies.mot import read_mot, write_mot
from edgepose.benchmarks.studies.tracking import Errors, walk
from edgepose.errors import InputError


def sequence(folder: Path, truth: str, found: str) -> Path:
    for name, lines in (("gt", truth), ("det", found)):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.txt").write_text(lines)
    return folder


def test_an_empty_sequence_has_no_frames(tmp_path: Path):
    assert read_mot(sequence(tmp_path / "s", "", "")) == []


def test_what_is_written_is_read(tmp_path: Path):
    frames = list(walk(3, 20, Errors(), np.random.default_rng(0)))

    write_mot(frames, tmp_path / "s")

    for wanted, found in zip(frames, read_mot(tmp_path / "s"), strict=True):
        assert found.ids.tolist() == wanted.ids.tolist()
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.011)  # two digits of a corner, two of a size
        np.testing.assert_allclose(found.found, wanted.found, atol=0.011)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


def test_the_truth_is_of_pedestrians_that_count(tmp_path: Path):
    truth = "1,7,10,20,30,40,1,1,1\n1,8,0,0,9,9,0,1,1\n1,9,0,0,9,9,1,3,1\n"

    (first, second) = read_mot(sequence(tmp_path / "s", truth, "2,-1,1,2,3,4,0.9\n2,-1,1,2,3,4,0.1\n"), min_score=0.5)

    assert (first.ids.tolist(), first.boxes.tolist()) == ([7], [[10, 20, 40, 60]])
    assert (len(second.ids), second.found.tolist()) == (0, [[1, 2, 4, 6]])


@pytest.mark.parametrize("lines", ["1,2,3\n", "frame,id\n"])
def test_other_lines_are_refused(tmp_path: Path, lines: str):
    with pytest.raises(InputError, match=r"gt\.txt: "):
        read_mot(sequence(tmp_path / "s", lines, ""))
