"""Which captions repeat earlier ones: told in one pass over all of them, in their order."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from app.xmore.retrieval import fold

KeyArray = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]

_FRESH = 2**17
_FRESH_SHARE = 16


def tidied(captions: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each caption on one line, and its folded text, which is empty for a blank one."""
    for caption in captions:
        text = " ".join(caption.split())
        yield text, fold(text)


def caption_key(folded: str) -> int:
    """A digest of a folded caption, eight bytes.

    Two different captions share one with probability n² / 2⁶⁵: once in a thousand collections of
    200 million.
    """
    return int.from_bytes(blake2b(folded.encode(), digest_size=8).digest(), "little")


def caption_keys(captions: Iterable[str]) -> KeyArray:
    """The keys of captions, those without a word left out, (n,)."""
    keys = [caption_key(folded) for _, folded in tidied(captions) if folded]
    return np.asarray(keys, np.uint64)


class SeenCaptions:
    """Which captions were there before, by their keys: eight bytes each.

    Keys that came lately are kept in a set, and moved to a sorted array once they are many: each
    move costs the whole array, so it waits for a sixteenth of it.
    """

    def __init__(self) -> None:
        self._sorted: KeyArray = np.empty(0, np.uint64)
        self._fresh: set[int] = set()

    def add(self, key: int) -> bool:
        """Note a key; False if it was there."""
        return bool(self.add_all(np.asarray([key], np.uint64))[0])

    def add_all(self, keys: KeyArray) -> BoolArray:
        """Note keys (n,) in their order; which of them were not there, (n,)."""
        new = ~self._settled(keys)
        for place in np.flatnonzero(new).tolist():
            key = int(keys[place])
            new[place] = key not in self._fresh
            self._fresh.add(key)
        if len(self._fresh) > max(_FRESH, len(self._sorted) // _FRESH_SHARE):
            self._settle()
        return new

    def _settled(self, keys: KeyArray) -> BoolArray:
        if not len(self._sorted):
            return np.zeros(len(keys), np.bool_)
        places = np.searchsorted(self._sorted, keys)
        found: BoolArray = self._sorted[np.minimum(places, len(self._sorted) - 1)] == keys
        return found

    def _settle(self) -> None:
        fresh = np.fromiter(self._fresh, np.uint64, len(self._fresh))
        fresh.sort()
        self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, fresh), fresh)
        self._fresh.clear()
