"""Rows that are computed once, also across kills."""

from pathlib import Path

import numpy as np
import pytest

from app.evaluation.store import Column, Part, Rows, compute_rows


class KilledError(Exception):
    """Stands for a kill."""


class Squares:
    """Computes squares; breaks off at a row."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self._breaks_at = breaks_at

    def __call__(self, start: int, stop: int) -> tuple[Part, list[str]]:
        if self._breaks_at is not None and stop > self._breaks_at:
            raise KilledError
        self.asked.append((start, stop))
        return {"squares": np.arange(start, stop) ** 2}, [f"{start} to {stop}"]


def rows(directory: Path, compute: Squares, seen: list[int]) -> Rows:
    return compute_rows(directory, 10, {"squares": Column(np.int64)}, 4, compute, seen.append)


def test_what_was_computed_before_a_kill_is_kept(tmp_path: Path) -> None:
    broken = Squares(breaks_at=8)
    with pytest.raises(KilledError):
        rows(tmp_path / "rows", broken, [])
    assert broken.asked == [(0, 4), (4, 8)]
    rest, seen = Squares(), list[int]()
    found = rows(tmp_path / "rows", rest, seen)
    assert rest.asked == [(8, 10)]
    assert (seen[0], seen[-1]) == (8, 10)
    assert found.arrays["squares"].tolist() == [n**2 for n in range(10)]
    assert found.notes == ["0 to 4", "4 to 8", "8 to 10"]
    again = Squares()
    assert rows(tmp_path / "rows", again, []).notes == found.notes
    assert again.asked == []
