"""Figures with their uncertainty: intervals, paired tests, calibration, coverage."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RESAMPLES = 10_000
LEVEL = 0.95
CALIBRATION_BINS = 15
HISTOGRAM_BINS = 20
COVERAGES = np.linspace(0.05, 1.0, 20)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins of equal width over probability, for a reliability plot.

    Attributes:
        counts: answers in each bin.
        probability: mean probability of the answers in it; 0 where it is empty.
        accuracy: share of them that is right; 0 where it is empty.
    """

    counts: npt.NDArray[np.int64]
    probability: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean gap of the bins, by their size."""
        shares = self.counts / max(1, self.counts.sum())
        return float((shares * np.abs(self.accuracy - self.probability)).sum())


def resampled_means(values: Floats, seed: int = 0) -> Floats:
    """Means of bootstrap samples of n values, (RESAMPLES,).

    Drawing n of n values with replacement draws, for each distinct value, how often it occurs from
    a multinomial distribution. There are few distinct values here, so that is what is drawn.
    """
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=RESAMPLES)
    means: Floats = drawn @ distinct / n
    return means


def interval(value: float, means: Floats) -> Interval:
    """The percentile bootstrap interval around a mean."""
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(value, float(low), float(high))


def mean_interval(values: Floats, seed: int = 0) -> Interval:
    """The mean of n values with its interval."""
    return interval(float(values.mean()), resampled_means(values, seed))


def mcnemar(mended: int, spoiled: int) -> float:
    """Two-sided p-value of McNemar's test, exact.

    Args:
        mended: images that only the second method has right.
        spoiled: images that only the first has right.
    """
    if mended + spoiled == 0:
        return 1.0
    return float(binomtest(mended, mended + spoiled, 0.5).pvalue)


def reliability(probability: Floats, correct: Bools) -> Reliability:
    """Bins of answers, by the probability given to them.

    Args:
        probability: of the answer, (n,), in [0, 1].
        correct: whether it is right, (n,).
    """
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    sizes = np.maximum(counts, 1)
    means = np.bincount(bins, probability, CALIBRATION_BINS) / sizes
    return Reliability(counts, means, np.bincount(bins, correct, CALIBRATION_BINS) / sizes)


def coverage_curve(probability: Floats, correct: Bools) -> Floats:
    """Accuracy among the surest answers, at each of COVERAGES: selective classification's curve."""
    right = np.cumsum(correct[np.argsort(-probability, kind="stable")])
    kept = np.maximum(1, np.round(COVERAGES * len(correct)).astype(int))
    curve: Floats = right[kept - 1] / kept
    return curve


def histogram(values: Floats) -> npt.NDArray[np.int64]:
    """How many values in [0, 1] fall into each of HISTOGRAM_BINS bins of equal width."""
    counts, _ = np.histogram(values, HISTOGRAM_BINS, (0.0, 1.0))
    return counts.astype(np.int64)
