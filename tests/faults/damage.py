"""Strategies of damaged input: JSON values with an entry exchanged, and bytes with a few of them changed."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The fast share is the same every day; `make test-all` looks at others each time.
ALL = bool(os.environ.get("EDGEPOSE_TEST_ALL"))
thoroughly = settings(
    max_examples=300 if ALL else 40,
    derandomize=not ALL,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
few = settings(thoroughly, max_examples=60 if ALL else 12)

ODD = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**25, 10**400, -(10**400), 0.5, -0.0, 1e-320, 1e308, -1e308,
    float("nan"), float("inf"), "", "x", "a" * 300, "\0", "\x1b[2J", "\ud800", "../../etc/passwd", "/dev/zero", "{0.x}",
    "%n", "NaN", "1e999", [], {}, [[]], [5], [None] * 3, {"": None}, "os", "fp33", [0, 0, 0, 0], [1e308] * 4,
]  # fmt: skip


def odd_values() -> st.SearchStrategy[Any]:
    """Values that are of another type, size or meaning than anything expects."""
    leaves = st.sampled_from(ODD).map(copy.deepcopy) | st.integers() | st.floats() | st.text(max_size=8)
    return leaves | st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    )


@st.composite
def damaged_json(draw: st.DrawFn, whole: Any) -> bytes:
    """The text of a JSON value in which one to three entries are exchanged, removed, doubled or renamed."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(_places(value) or [([value], 0)]))
        match draw(st.sampled_from(["exchange", "exchange", "remove", "double", "rename"])):
            case "remove":
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case "rename" if isinstance(holder, dict):
                holder[draw(st.text(max_size=6))] = holder.pop(key)
            case _:
                holder[key] = draw(odd_values())
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) in a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with an end cut off, a part lost, doubled, zeroed or noisy, or single bytes changed."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        stop = min(len(data), start + draw(st.sampled_from([1, 2, 4, 16, 256, 1 << 20])))
        match draw(st.sampled_from(["cut", "lose", "double", "zero", "ones", "noise", "change"])):
            case "cut":
                del data[start:]
            case "lose":
                del data[start:stop]
            case "double":
                data[start:start] = data[start:stop]
            case "zero":
                data[start:stop] = bytes(stop - start)
            case "ones":
                data[start:stop] = b"\xff" * (stop - start)
            case "noise":
                noise = draw(st.binary(min_size=1, max_size=64))
                data[start : start + len(noise)] = noise
            case _:
                data[start:stop] = bytes([draw(st.integers(0, 255))])
    return bytes(data)
