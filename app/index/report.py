"""`build_report.json`: what was read, what was left out and why."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

_SAMPLES = 100
_REASON_LENGTH = 300


class Omission(BaseModel):
    """One row or file that could not be used."""

    model_config = ConfigDict(extra="forbid")

    origin: str
    reason: str


class Report(BaseModel):
    """Counts over a shard, or over all of them.

    Attributes:
        records: images or rows that were read and could be used.
        faults: rows and files that could not.
        repeats: captions that were left out as repeats of earlier ones.
        blanks: captions without a word.
        samples: the first faults.
    """

    model_config = ConfigDict(extra="forbid")

    records: Annotated[int, Field(ge=0)] = 0
    faults: Annotated[int, Field(ge=0)] = 0
    repeats: Annotated[int, Field(ge=0)] = 0
    blanks: Annotated[int, Field(ge=0)] = 0
    samples: list[Omission] = []

    def note(self, origin: str, reason: str) -> None:
        """Count a fault, and keep it if it is among the first."""
        self.faults += 1
        if len(self.samples) < _SAMPLES:
            self.samples.append(Omission(origin=origin, reason=reason[:_REASON_LENGTH]))

    def plus(self, other: Self) -> "Report":
        """Both together."""
        return Report(
            records=self.records + other.records,
            faults=self.faults + other.faults,
            repeats=self.repeats + other.repeats,
            blanks=self.blanks + other.blanks,
            samples=[*self.samples, *other.samples][:_SAMPLES],
        )
