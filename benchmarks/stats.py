"""Statistics on a machine whose speed drifts: pairs measured side by side, medians, spread."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
K = TypeVar("K")

_STEPS = 200


@dataclass(frozen=True, slots=True)
class Sandwich(Generic[T]):
    """Something measured right before and right after something else.

    The mean of `before` and `after` is what it would have been at the time of `between`, as long
    as the machine's speed changes steadily.
    """

    before: T
    between: T
    after: T

    def ratio(self, value: Callable[[T], float]) -> float:
        """The outer over the inner; infinite where the inner is nothing."""
        inner = value(self.between)
        return (value(self.before) + value(self.after)) / 2 / inner if inner else math.inf


def interleave(
    one: Callable[[], T], others: Mapping[K, Callable[[], T]], rounds: int
) -> dict[K, list[Sandwich[T]]]:
    """Measure `one` before and after each of the others, round after round.

    Every second round goes through the others backwards, so that none is always the first.
    """
    found: dict[K, list[Sandwich[T]]] = {name: [] for name in others}
    before = one()
    for number in range(rounds):
        for name in list(others)[:: -1 if number % 2 else 1]:
            between = others[name]()
            after = one()
            found[name].append(Sandwich(before, between, after))
            before = after
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and quartiles of what the rounds found."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of at least one value."""
        low, median, high = np.percentile(values, (25, 50, 75))
        return cls(float(median), float(low), float(high))


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile, linear between neighbours; NaN of no values."""
    return float(np.percentile(values, percent)) if values else math.nan


def rate(ends: Sequence[float], start: float, end: float) -> float:
    """How many a second ended between `start` and `end`: the slope of their running count.

    Answers of one batch come all at once. Counting them would depend on whether the last batch
    just made it into the window; a line through the running count hardly does.

    Args:
        ends: times in seconds, in any order.
        start: of the window, seconds.
        end: of the window, seconds.
    """
    times = np.linspace(start, end, _STEPS)
    counts: npt.NDArray[np.int64] = np.searchsorted(np.sort(ends), times, side="right")
    return float(np.polyfit(times - start, counts, 1)[0])
