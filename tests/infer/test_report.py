from __future__ import annotations

from collections import Counter

import pytest

from edgepose.infer.report import InferReport


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (1, "(a of 9)"),
        (4, "(a of 9, b of 8, c of 7, d of 6)"),
        (5, "c of 7, d of 6, e of 5)"),
        (6, "d of 6 and 2 others)"),
    ],
)
def test_key_points_that_a_lifter_lacks_are_named_or_counted_but_never_one_alone(missing, told):
    report = InferReport(
        people=10, unlifted=9, missing=Counter(dict(zip("abcdef"[:missing], range(9, 0, -1), strict=False)))
    )

    (line,) = report.warnings()

    assert line.startswith("9 of 10 people have no xyz: ")
    assert told in line
