"""Texts to token ids, and which texts are longer than the model reads."""

from collections.abc import Callable, Sequence
from threading import Lock

import open_clip.tokenizer
from cachetools import LRUCache
from open_clip import SimpleTokenizer
from torch import Tensor

Tokenize = Callable[..., Tensor]
"""As open_clip's tokenizers: texts, and `context_length`, to ids (n, context_length) int64."""

_REMEMBERED = 100_000
_REMEMBERED_WORDS = 30_000

_TABLES = ("encoder", "decoder", "bpe_ranks")
"""What open_clip's tokenizer reads from its file of merges."""


class Tokenizer:
    """A tokenizer that remembers which texts it cut off, as tokenizing again takes a while.

    Methods may be called from any thread.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._reading = Lock()
        if isinstance(tokenize, SimpleTokenizer):
            _share_tables(tokenize)
            self._marks = dict(tokenize.cache)
        nothing = self._read([""])
        self.context = int(nothing.shape[1])
        self._padding = self._read([""], self.context + 1)[0, -1]
        self._cut: LRUCache[str, bool] = LRUCache(_REMEMBERED)
        self._lock = Lock()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids, (n, context) int64; of a text that exceeds the context the end is dropped."""
        more = self._read(texts, self.context + 1)
        cut = more[:, -1] != self._padding
        tokens = more[:, :-1].clone()
        if cut.any():
            # How an end is marked is the tokenizer's own affair.
            tokens[cut] = self._read([t for t, c in zip(texts, cut, strict=True) if c])
        told = zip(texts, cut.tolist(), strict=True)
        with self._lock:
            self._cut.update((text, is_cut) for text, is_cut in told if self._may_exceed(text))
        return tokens

    def cut_off(self, texts: Sequence[str]) -> list[bool]:
        """Which texts exceed the context."""
        long = list(filter(self._may_exceed, texts))
        if not long:
            return [False] * len(texts)
        known = self._known(long)
        fresh = [text for text in dict.fromkeys(long) if known[text] is None]
        if fresh:
            self(fresh)
            known |= self._known(fresh)
        return [bool(known.get(text)) for text in texts]

    def _read(self, texts: Sequence[str], context: int | None = None) -> Tensor:
        """Token ids, (n, context), by default of the model's own context."""
        with self._reading:
            tokens = self._tokenize(list(texts), context_length=context)
            self._forget_words()
        return tokens

    def _forget_words(self) -> None:
        """Bound what open_clip's tokenizer keeps: every word that it ever read."""
        if not isinstance(self._tokenize, SimpleTokenizer):
            return
        if len(self._tokenize.cache) > _REMEMBERED_WORDS:
            self._tokenize.cache = dict(self._marks)

    def _may_exceed(self, text: str) -> bool:
        # A token stands for at least one byte, and two tokens mark the ends.
        return len(text.encode()) > self.context - 2

    def _known(self, texts: Sequence[str]) -> dict[str, bool | None]:
        with self._lock:
            return {text: self._cut.get(text) for text in texts}


def _share_tables(tokenizer: SimpleTokenizer) -> None:
    """Let it use the tables of the tokenizer that open_clip makes when it is imported: 21 MB."""
    other = getattr(open_clip.tokenizer, "_tokenizer", None)
    for table in _TABLES:
        theirs = getattr(other, table, None)
        if theirs == getattr(tokenizer, table, None):
            setattr(tokenizer, table, theirs)
