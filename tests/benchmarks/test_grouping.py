import pytest
from click.testing import CliRunner

from edgepose.benchmarks.studies.grouping import main, measure_fields, measure_tags


@pytest.mark.parametrize("measure", [measure_fields, measure_tags])
def test_both_find_the_same_people(measure):
    row = measure(3, 1)

    assert row.equal
    assert row.found >= 3
    assert min(row.peaks_ms, row.group_ms, row.all_ms, row.published_ms) > 0


def test_prints_a_row_for_each_way_and_number():
    result = CliRunner().invoke(main, ["--people", "1", "--people", "2", "--rounds", "1"])

    assert result.exit_code == 0
    rows = [line.split(" | ") for line in result.output.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["| fields", "1"], ["| fields", "2"], ["| tags", "1"], ["| tags", "2"]]
    assert {len(row) for row in rows} == {10}
