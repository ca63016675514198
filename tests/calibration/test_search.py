"""The search on networks of numbers: layers whose losses add up, and no graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgepose.calibration.budget import Budget, Loss, parse_budget
from edgepose.calibration.search import Mix, Trial, leaving_order, search

LAYERS = [f"layer{index}" for index in range(20)]
PEOPLE = 16


class Numbers:
    """Measures a mix by adding up what each of its layers loses; counts how often."""

    def __init__(self, loses: Mapping[str, float], by_method: Mapping[str, float] | None = None) -> None:
        self.loses, self.by_method = loses, by_method or {"mse": 1.0}
        self.count = 0
        self.stop_after = 10**6

    def __call__(self, mix: Mix) -> Trial:
        if self.count == self.stop_after:
            raise KeyboardInterrupt
        self.count += 1
        value = self.by_method[mix.method] * sum(self.loses[name] for name in mix.layers)
        return Trial(mix, Loss(value, np.full(PEOPLE, value)), 100.0 - len(mix.layers), len(mix.layers) / len(LAYERS))

    def order(self, method: str) -> list[str]:
        return leaving_order(self.loses, dict.fromkeys(LAYERS, 1.0))


def find(numbers: Numbers, budget: float, methods: tuple[str, ...] = ("mse",)):
    return search(LAYERS, LAYERS, methods, numbers.order, numbers, Budget(budget, "px"))


def few_bad(bad: int = 3) -> Numbers:
    return Numbers({name: 1.0 if index < bad else 0.001 for index, name in enumerate(LAYERS)})


def test_all_layers_stay_in_int8_where_the_budget_allows_it():
    numbers = few_bad(0)

    found = find(numbers, 0.1)

    assert found.met
    assert found.best.mix.layers == frozenset(LAYERS)
    assert numbers.count == 1


@pytest.mark.parametrize("bad", [1, 3, 10, 19])
def test_exactly_the_layers_that_lose_leave_int8(bad):
    found = find(few_bad(bad), 0.5)

    assert found.met
    assert found.best.mix.layers == frozenset(LAYERS[bad:])


def test_a_layer_that_fits_beside_the_others_comes_back():
    numbers = Numbers({name: 0.4 if index < 5 else 0.0 for index, name in enumerate(LAYERS)})

    found = find(numbers, 0.9)  # two of the five fit

    assert found.best.loss.value == pytest.approx(0.8)
    assert len(found.best.mix.layers) == len(LAYERS) - 3


def test_layers_that_are_not_usual_come_in_where_they_fit_and_stay_out_where_they_do_not():
    numbers = Numbers(
        {name: (0.0, 0.001, 5.0)[0 if index < 10 else 1 + index % 2] for index, name in enumerate(LAYERS)}
    )

    found = search(LAYERS, LAYERS[:10], ("mse",), numbers.order, numbers, Budget(0.1, "px"))

    assert found.met
    assert found.best.mix.layers == {*LAYERS[:10], *LAYERS[10::2]}


def test_where_nothing_is_within_the_budget_the_least_loss_is_given_and_not_called_done():
    numbers = Numbers(dict.fromkeys(LAYERS, 1.0))

    found = find(numbers, 0.5)

    assert not found.met
    assert found.best.loss.value == min(trial.loss.value for trial in found.trials)


def test_a_mix_that_is_within_the_budget_by_luck_alone_is_not_taken():
    rng = np.random.default_rng(0)

    def measure(mix: Mix) -> Trial:
        parts = rng.normal(0, 1.0, PEOPLE)
        value = 0.02 * len(mix.layers)  # 0.4 of all; a standard error is 0.25
        return Trial(mix, Loss(value, parts - parts.mean() + value), 0.0, len(mix.layers) / len(LAYERS))

    found = search(LAYERS, LAYERS, ("mse",), lambda method: LAYERS, measure, Budget(0.6, "px"))

    assert found.met
    assert found.best.loss.value < 0.4
    assert found.best.loss.upper <= 0.6


def test_the_better_method_is_taken():
    numbers = few_bad()
    numbers.by_method = {"mse": 1.0, "entropy": 0.4, "minmax": 2.0}

    found = find(numbers, 0.5, ("mse", "entropy", "minmax"))

    assert found.best.mix.method == "entropy"


def test_a_method_that_is_better_by_noise_alone_is_not_taken():
    rng = np.random.default_rng(0)

    def measure(mix: Mix) -> Trial:
        parts = rng.normal(1.0 if mix.method == "mse" else 0.99, 0.5, PEOPLE)
        parts += (1.0 if mix.method == "mse" else 0.99) - parts.mean()  # a gain of 0.01 where 0.12 is noise
        return Trial(mix, Loss(float(parts.mean()), parts), 0.0, len(mix.layers) / len(LAYERS))

    found = search(LAYERS, LAYERS, ("mse", "entropy"), lambda method: LAYERS, measure, Budget(0.5, "px"))

    assert {trial.mix.method for trial in found.trials if trial.mix.layers != frozenset(LAYERS)} == {"mse"}


def test_an_interrupted_search_gives_the_best_so_far():
    numbers = few_bad(3)
    numbers.stop_after = 4

    found = find(numbers, 0.5)

    assert found.interrupted
    assert found.met
    assert found.best.loss.value <= 0.5


def test_an_interrupt_before_anything_was_found_is_handed_on():
    numbers = few_bad(3)
    numbers.stop_after = 1

    with pytest.raises(KeyboardInterrupt):
        find(numbers, 0.5)


def test_what_saves_nothing_leaves_first_then_what_makes_most_noise_for_its_time():
    noise = {"a": 1.0, "b": 1.0, "c": 9.0, "d": 0.1}
    saved = {"a": 1.0, "b": 2.0, "c": 30.0, "d": 0.0}

    assert leaving_order(noise, saved) == ["d", "a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("0.5px", 0.5, "px"), (" .3 AP", 0.3, "ap"), ("0.005oks", 0.005, "oks"), ("1pck", 1, "pck")],
)
def test_a_budget_is_a_number_and_a_unit(text, value, unit):
    assert parse_budget(text) == Budget(value, unit)


@pytest.mark.parametrize("text", ["", "0.5", "px", "0px", "-1px", "1 mm", "1e3px", "nanpx", "0.0ap"])
def test_another_text_is_no_budget(text):
    with pytest.raises(ValueError, match="wanted"):
        parse_budget(text)
