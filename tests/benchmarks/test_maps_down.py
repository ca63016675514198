"""The study of what a GPU is asked of maps."""

from __future__ import annotations

import pytest

from edgepose.benchmarks.studies.maps_down import of_fields, of_tags


@pytest.mark.parametrize(("measure", "waits"), [(of_fields, 2), (of_tags, 5)])
def test_less_comes_down_than_the_maps(measure, waits):
    asked, nbytes, times = measure(3, 1)

    assert asked.waits == waits
    assert 0 < asked.down < nbytes / 10
    assert len(times) == 3
