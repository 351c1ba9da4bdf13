"""The figures: which there are, what they should be, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.machine import Machine
from benchmarks.stats import Summary

FigureName = Literal[
    "one_request",
    "bound",
    "plain",
    "plain_cached",
    "infinity",
    "labels_first",
    "labels_again",
    "large_photo",
    "start",
    "memory",
    "tail",
]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its target.

    Attributes:
        words: what is divided by what.
        target: the worst value that is good.
        at_most: whether less is better.
        unit: none for a ratio.
    """

    words: str
    target: float
    at_most: bool
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether a value reaches the target."""
        return value <= self.target if self.at_most else value >= self.target

    @property
    def target_words(self) -> str:
        """`≤ 1.2`."""
        return f"{'≤' if self.at_most else '≥'} {self.target:g}{self.unit}"


FIGURES: Mapping[FigureName, Figure] = {
    "one_request": Figure("one request at a time: p50 ÷ (decode + encode) in-process", 1.2, True),
    "bound": Figure("32 clients: images/s ÷ what the cores could do", 0.8, False),
    "plain": Figure("32 clients: images/s ÷ plain service", 10, False),
    "plain_cached": Figure("32 clients: images/s ÷ plain service that keeps labels", 3, False),
    "infinity": Figure("32 clients: images/s ÷ infinity-emb's image embedding", 1.3, False),
    "labels_first": Figure("1000 new labels: request ÷ encoding them in one call", 1.2, True),
    "labels_again": Figure("1000 known labels: p50 ÷ p50 with 10 labels", 1.15, True),
    "large_photo": Figure("12 megapixels: p50 ÷ p50 with 640 by 480", 3, True),
    "start": Figure("from `xmore serve` to ready", 6, True, " s"),
    "memory": Figure("resident memory, quiet after 32 clients", 900, True, " MB"),
    "tail": Figure("half of the saturation load: p99 ÷ p50", 3, True),
}


class _Model(BaseModel):
    # NaN and infinity stand for figures of servers that gave no right answer.
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")


class Measured(_Model):
    """One figure of one model.

    Attributes:
        figure: which.
        model: whose.
        median: over the rounds.
        low: first quartile.
        high: third quartile.
        rounds: each round's value.
        details: what stands behind it, name to value, medians.
        faults: answers that were wrong or none, kind to how many.
    """

    figure: FigureName
    model: str
    median: float
    low: float
    high: float
    rounds: list[float]
    details: dict[str, float] = {}
    faults: dict[str, int] = {}

    @classmethod
    def of(
        cls,
        figure: FigureName,
        model: str,
        rounds: Sequence[float],
        details: Mapping[str, float] | None = None,
        faults: Mapping[str, int] | None = None,
    ) -> "Measured":
        """Summarise the rounds."""
        summary = Summary.of(rounds)
        return cls(
            figure=figure,
            model=model,
            median=summary.median,
            low=summary.low,
            high=summary.high,
            rounds=list(rounds),
            details=dict(details or {}),
            faults=dict(faults or {}),
        )


class SweepPoint(_Model):
    """Throughput and latency with so many clients."""

    model: str
    clients: int
    images_per_s: float
    p50_ms: float
    p99_ms: float


class Results(_Model):
    """All of a run.

    Attributes:
        machine: what it ran on.
        models: each model's precision and threads.
        mode: `quick` or `full`.
        started: when, UTC.
        measured: the figures.
        sweep: the plot's points.
        left_out: what could not be measured, and why.
    """

    machine: Machine
    models: dict[str, dict[str, str]]
    mode: str
    started: str
    measured: list[Measured]
    sweep: list[SweepPoint]
    left_out: list[str]
