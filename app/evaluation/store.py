"""Rows on disk that are computed part by part, once; a run that was killed goes on after them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Part = Mapping[str, Array]
Compute = Callable[[int, int], tuple[Part, list[str]]]
"""Rows start to stop, of every array, and what is to be noted about them."""

_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a table: its type, and the shape of a row."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Finished rows, mapped from disk; `notes` is what was noted when they were computed."""

    arrays: dict[str, Array]
    notes: list[str]


def key_of(*parts: object) -> str:
    """A name for a folder of rows: a digest of all that they depend on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:24]


def compute_rows(
    directory: Path,
    size: int,
    columns: Mapping[str, Column],
    step: int,
    compute: Compute,
    progress: Callable[[int], object],
) -> Rows:
    """All rows: those on disk, and the rest computed and kept.

    Args:
        directory: where they are kept; its name tells them from others, see `key_of`.
        size: number of rows.
        columns: the arrays.
        step: how many rows are computed and kept at a time.
        compute: makes rows.
        progress: told how many rows are there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    done, notes = _state(directory)
    paths = {name: directory / f"{name}.npy" for name in columns}
    if done == 0:
        for name, column in columns.items():
            np.lib.format.open_memmap(paths[name], "w+", column.dtype, (size, *column.shape))
    if done < size:
        arrays = {name: np.load(path, mmap_mode="r+") for name, path in paths.items()}
        progress(done)
        for start in range(done, size, step):
            stop = min(start + step, size)
            part, noted = compute(start, stop)
            for name, values in part.items():
                arrays[name][start:stop] = values
                arrays[name].flush()
            notes += noted
            _keep_state(directory, stop, notes)
            progress(stop)
    progress(size)
    return Rows({name: np.load(path, mmap_mode="r") for name, path in paths.items()}, notes)


def _state(directory: Path) -> tuple[int, list[str]]:
    path = directory / _STATE
    if not path.exists():
        return 0, []
    state = json.loads(path.read_text(encoding="utf-8"))
    return int(state["done"]), list(state["notes"])


def _keep_state(directory: Path, done: int, notes: list[str]) -> None:
    partial = directory / f"{_STATE}.partial"
    partial.write_text(json.dumps({"done": done, "notes": notes}), encoding="utf-8")
    partial.replace(directory / _STATE)
