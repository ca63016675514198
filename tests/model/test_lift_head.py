from __future__ import annotations

import pytest

from edgepose.model.heads.lift import Lift

STATISTICS = {"input_mean": (1.0,), "input_std": (1.0,), "output_mean": (1.0, 2.0), "output_std": (1.0, 1.0)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": 0}, "frames must be a whole number from 1"),
        ({"frames": 27.0}, "got 27.0"),
        ({"frames": True}, "got True"),
        ({"units": "metres"}, "units must be one of screen, person, statistics"),
        ({"causal": 1}, "causal must be true or false"),
        ({"root": ""}, "root must be a name"),
        ({"statistics": STATISTICS}, "with units 'statistics'"),
        ({"units": "statistics", "statistics": {"input_mean": (1.0,)}}, "statistics must be input_mean"),
        ({"units": "statistics", "statistics": {**STATISTICS, "input_std": (0.0,)}}, "input_std must be positive"),
        ({"units": "statistics", "statistics": {**STATISTICS, "input_mean": (float("nan"),)}}, "finite numbers"),
        ({"units": "statistics", "statistics": {**STATISTICS, "output_std": (1.0,)}}, "output_mean has 2 numbers"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Lift(**{"frames": 27, **fields})
