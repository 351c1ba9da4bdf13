"""Ratios of neighbours, and rates that do not depend on where a window happens to begin."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import Sandwich, Summary, interleave, percentile, rate


def test_a_steady_drift_of_the_machine_leaves_the_ratio_alone() -> None:
    assert Sandwich(10.0, 5.5, 12.0).ratio(float) == pytest.approx(2.0)


def test_each_other_one_lies_between_two_of_the_first() -> None:
    order: list[str] = []

    def measuring(name: str) -> Callable[[], int]:
        def measure() -> int:
            order.append(name)
            return len(order)

        return measure

    found = interleave(measuring("a"), {"b": measuring("b"), "c": measuring("c")}, rounds=2)
    assert order == ["a", "b", "a", "c", "a", "c", "a", "b", "a"]
    assert found["b"] == [Sandwich(1, 2, 3), Sandwich(7, 8, 9)]
    assert found["c"] == [Sandwich(3, 4, 5), Sandwich(5, 6, 7)]


@given(phase=st.floats(0, 1), per_s=st.floats(2, 200))
def test_a_rate_of_single_answers_is_found(phase: float, per_s: float) -> None:
    ends = [(i + phase) / per_s for i in range(int(20 * per_s))]
    assert rate(ends, 2.0, 12.0) == pytest.approx(per_s, rel=0.05)


@given(phase=st.floats(0, 1))
def test_a_rate_of_batches_hardly_depends_on_where_the_window_begins(phase: float) -> None:
    batch, every_s = 32, 1.6
    ends = [(i + phase) * every_s for i in range(20) for _ in range(batch)]
    assert rate(ends, 4.0, 14.0) == pytest.approx(batch / every_s, rel=0.06)


def test_nothing_is_no_rate_and_has_no_percentile() -> None:
    assert rate([], 0.0, 1.0) == 0.0
    assert math.isnan(percentile([], 50))
    assert Sandwich(1.0, 0.0, 1.0).ratio(float) == math.inf


def test_a_summary_is_the_median_and_the_quartiles() -> None:
    assert Summary.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Summary(3.0, 2.0, 4.0)
