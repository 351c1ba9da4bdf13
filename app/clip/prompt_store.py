"""Embeddings of prompts on disk, so that a restarted server need not encode its labels again."""

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from app.clip.labels import FloatArray, LabelFileError

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS prompts (
    model TEXT NOT NULL, prompt TEXT NOT NULL, embedding BLOB NOT NULL, PRIMARY KEY (model, prompt)
)
"""
_NEWEST = "SELECT prompt, embedding FROM prompts WHERE model = ? ORDER BY rowid DESC LIMIT ?"
_TRIM = """
DELETE FROM prompts WHERE model = :model AND rowid <= (
    SELECT rowid FROM prompts WHERE model = :model ORDER BY rowid DESC LIMIT 1 OFFSET :limit
)
"""


class SqlitePrompts:
    """Prompts and embeddings of one model in an SQLite file, which several servers may share."""

    def __init__(self, path: Path, model: str, dim: int, limit: int) -> None:
        """Open the file, or make it.

        Args:
            path: of the file.
            model: what tells embeddings of one model and precision from those of another.
            dim: d.
            limit: most prompts that are kept for the model; the newest stay.

        Raises:
            LabelFileError: it cannot be made, or is something else.
        """
        self._model = model
        self._dim = dim
        self._limit = limit
        try:
            # One thread at a time uses it: the one that loads, later the one that encodes.
            self._file = sqlite3.connect(path, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        self._path = path

    def load(self, limit: int) -> Mapping[str, FloatArray]:
        """At most `limit` prompts, the newest, with their embeddings, (d,); the oldest comes first.

        Raises:
            LabelFileError: the file is damaged.
        """
        try:
            rows = self._file.execute(_NEWEST, (self._model, limit)).fetchall()
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        found = {prompt: np.frombuffer(blob, np.float32) for prompt, blob in reversed(rows)}
        return {prompt: e for prompt, e in found.items() if e.shape == (self._dim,)}

    def save(self, embeddings: Mapping[str, FloatArray]) -> None:
        """Keep these as well; if that fails, the server goes on without."""
        rows = [(self._model, p, e.astype(np.float32).tobytes()) for p, e in embeddings.items()]
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)", rows)
                self._file.execute(_TRIM, {"model": self._model, "limit": self._limit})
        except sqlite3.Error as error:
            logger.warning("embeddings of labels are not kept on disk: %s", error)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _unusable(path: Path, error: sqlite3.Error) -> LabelFileError:
    return LabelFileError(
        f"XMORE_LABEL_CACHE_FILE={path} cannot be used ({error}). Its directory must exist and be "
        "writable; a damaged file may be deleted."
    )
