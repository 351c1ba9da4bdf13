"""Figures and their uncertainty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, chi2

from app.evaluation import statistics


def test_the_interval_is_that_of_the_bootstrap() -> None:
    values = np.repeat([0.0, 1 / 3, 1.0], [30, 20, 70])
    ours = statistics.mean_interval(values)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", random_state=1
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60))
def test_an_interval_holds_values_that_occur(values: list[float]) -> None:
    found = statistics.mean_interval(np.array(values))
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.value == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    ("mended", "spoiled", "p"), [(0, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 64), (1, 9, 22 / 1024)]
)
def test_mcnemar_is_exact(mended: int, spoiled: int, p: float) -> None:
    assert statistics.mcnemar(mended, spoiled) == pytest.approx(p)
    assert statistics.mcnemar(spoiled, mended) == pytest.approx(p)


def test_mcnemar_of_many_is_near_its_chi_square() -> None:
    mended, spoiled = 520, 450
    corrected = (abs(mended - spoiled) - 1) ** 2 / (mended + spoiled)
    assert statistics.mcnemar(mended, spoiled) == pytest.approx(chi2.sf(corrected, 1), rel=0.01)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    probability = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, True])
    bins = statistics.reliability(probability, correct)
    assert bins.counts.sum() == 6
    assert bins.error == pytest.approx(4 / 6 * (0.95 - 0.75) + 2 / 6 * (1 - 0.55))


@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_at_full_coverage_the_curve_is_the_accuracy(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probability, correct = rng.random(n), rng.random(n) < 0.6
    curve = statistics.coverage_curve(probability, correct)
    assert curve[-1] == pytest.approx(correct.mean())
    assert ((curve >= 0) & (curve <= 1)).all()
    assert statistics.reliability(probability, correct).counts.sum() == n
    assert statistics.histogram(probability).sum() == n


def test_the_surest_answers_come_first() -> None:
    probability = np.linspace(1, 0.5, 40)
    correct = np.arange(40) < 20
    curve = statistics.coverage_curve(probability, correct)
    assert curve[:10].tolist() == [1.0] * 10
    assert curve[-1] == 0.5
