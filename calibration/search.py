"""The cheapest mix of INT8 and FP16 layers within a budget, found by measuring mixes on held-out people.

A mix is within the budget where its loss is with 95 % certainty: what only luck brings below is not taken.

First the range methods compete with the usual layers in INT8; another than the first is taken only where it is better
by more than the standard error of the difference, paired over images. Then, from all layers in INT8, depthwise ones and
the head among them, those go to FP16 first that make most noise for what their INT8 saves; a bisection finds how many
must. At last some of them are tried in INT8 again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgepose.calibration.budget import Budget, Loss, standard_error

RETURNS = 8  # layers that are tried in INT8 again


@dataclass(frozen=True)
class Mix:
    """A choice of what INT8 is: `layers`, with ranges by `method`."""

    method: str
    layers: frozenset[str]


@dataclass(frozen=True)
class Trial:
    """A mix that was measured.

    Attributes:
        loss: against FP32, in the budget's unit.
        predicted_us: microseconds a crop, from the cost model.
        int8_share: of the multiply-adds; None if not known.
    """

    mix: Mix
    loss: Loss
    predicted_us: float
    int8_share: float | None


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        best: the cheapest mix within the budget; where none is, the one that loses least.
        met: whether it is within the budget.
        trials: all that were measured, in order.
        interrupted: True if the user stopped it; `best` is then the best so far.
    """

    best: Trial
    met: bool
    trials: tuple[Trial, ...]
    interrupted: bool = False


Measure = Callable[[Mix], Trial]
Order = Callable[[str], Sequence[str]]  # method -> all layers, those first that should leave INT8 first


class _Search:
    def __init__(self, measure: Measure, budget: Budget, say: Callable[[Trial, bool], None]) -> None:
        self.measure, self.budget, self.say = measure, budget, say
        self.trials: list[Trial] = []

    def attempt(self, method: str, layers: Collection[str]) -> Trial:
        mix = Mix(method, frozenset(layers))
        for known in self.trials:
            if known.mix == mix:
                return known
        trial = self.measure(mix)
        self.trials.append(trial)
        self.say(trial, self.meets(trial))
        return trial

    def meets(self, trial: Trial) -> bool:
        return trial.loss.upper <= self.budget.value

    def found(self, interrupted: bool = False) -> Found:
        within = [trial for trial in self.trials if self.meets(trial)]
        if within:
            return Found(min(within, key=_rank), True, tuple(self.trials), interrupted)
        return Found(min(self.trials, key=lambda trial: trial.loss.value), False, tuple(self.trials), interrupted)


def _rank(trial: Trial) -> tuple[float, float, float]:
    """Cheapest first; of equally cheap mixes the one with more INT8, then the one that loses less."""
    return (round(trial.predicted_us, 1), -(trial.int8_share or 0.0), trial.loss.value)


def search(
    layers: Collection[str],
    usual: Collection[str],
    methods: Sequence[str],
    order: Order,
    measure: Measure,
    budget: Budget,
    *,
    exclude: bool = True,
    say: Callable[[Trial, bool], None] = lambda trial, met: None,
) -> Found:
    """Find the cheapest mix within a budget.

    Args:
        layers: all that can be INT8; at least one. `usual`: those of them with which the methods are compared.
        methods: of ranges; the first is kept unless another is better by more than the standard error.
        measure: makes and measures a mix; KeyboardInterrupt from it ends the search.
        exclude: False: `usual` is tried with each method, `layers` with the best one, and no single layer is taken out.
        say: is told each trial, and whether it is within the budget.

    Raises:
        KeyboardInterrupt: nothing within the budget had been found when it came.
    """
    run = _Search(measure, budget, say)
    try:
        _run(run, layers, usual, methods, order if exclude else None)
    except KeyboardInterrupt:
        if not any(run.meets(trial) for trial in run.trials):
            raise
        return run.found(interrupted=True)
    return run.found()


def _run(
    run: _Search, layers: Collection[str], usual: Collection[str], methods: Sequence[str], order: Order | None
) -> None:
    best = run.attempt(methods[0], usual)
    for method in methods[1:]:
        best = _better(best, run.attempt(method, usual))
    method = best.mix.method
    if run.meets(run.attempt(method, layers)) or order is None:
        return
    leaving = list(order(method))
    low, high = 0, len(leaving)  # with `low` layers gone the budget is not met; with `high` it is, or nothing helps
    while high - low > 1:
        middle = (low + high) // 2
        if run.meets(run.attempt(method, leaving[middle:])):
            high = middle
        else:
            low = middle
    if high == len(leaving):
        return
    kept, gone = set(leaving[high:]), leaving[:high]
    current = run.attempt(method, kept)
    for layer in gone[::-1][:RETURNS]:  # those that left last make least noise for what they save
        trial = run.attempt(method, current.mix.layers | {layer})
        if run.meets(trial) and _rank(trial) < _rank(current):
            current = trial


def _better(one: Trial, other: Trial) -> Trial:
    """The other if it loses less by more than the standard error of the paired difference, else the one."""
    gain = one.loss.parts - other.loss.parts
    return other if gain.mean() > standard_error(gain) else one


def leaving_order(noise: Mapping[str, float], saved_us: Mapping[str, float]) -> list[str]:
    """Layers by noise for each microsecond that INT8 saves, largest first; those that save nothing are first of all.

    Noise of layers adds up, nearly: their rounding errors do not know of one another.
    """

    def worth(name: str) -> float:
        return noise[name] / saved_us[name] if saved_us[name] > 0 else np.inf

    return sorted(noise, key=lambda name: (-worth(name), -noise[name]))
