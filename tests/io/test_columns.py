from __future__ import annotations

from edgepose.io.columns import aligned


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_with_their_text():
    assert aligned([]) == []
    assert aligned([["name", "AP"], ["a.onnx", "0.5"], ["b", ""]]) == ["name    AP", "a.onnx  0.5", "b"]


def test_columns_of_numbers_end_together():
    assert aligned([["n", "ms"], ["a", "10.0"], ["b", "9.5"]], right=(1,)) == ["n    ms", "a  10.0", "b   9.5"]
