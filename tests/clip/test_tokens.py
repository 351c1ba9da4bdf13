"""Tokens as the tokenizer gives them, and what it cut off."""

from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.clip.tokens import Tokenizer

CONTEXT = 16
TOKENIZE = open_clip.SimpleTokenizer(context_length=CONTEXT)
TOKENIZER = Tokenizer(TOKENIZE)

texts = st.lists(st.text(max_size=40) | st.integers(0, 40).map(lambda n: "cat " * n), max_size=6)


def is_cut(text: str) -> bool:
    longer = TOKENIZE([text], context_length=4096)[0]
    return int((longer != 0).sum()) > CONTEXT


@given(texts)
def test_tokens_are_the_tokenizers_own(asked: list[str]) -> None:
    expected = TOKENIZE(asked) if asked else torch.empty((0, CONTEXT), dtype=torch.int64)
    assert torch.equal(TOKENIZER(asked), expected)


@given(texts, st.booleans())
def test_what_is_cut_off_is_told_whether_it_was_read_before_or_not(
    asked: list[str], before: bool
) -> None:
    tokenizer = Tokenizer(TOKENIZE)
    if before:
        tokenizer(asked)
    assert tokenizer.cut_off(asked) == [is_cut(text) for text in asked]


def test_words_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.clip.tokens._REMEMBERED_WORDS", 50)
    tokenize = open_clip.SimpleTokenizer(context_length=CONTEXT)
    tokenizer = Tokenizer(tokenize)
    asked = [f"word{number} <start_of_text>" for number in range(0, 3000, 7)]
    for first in range(0, len(asked), 20):
        some = asked[first : first + 20]
        assert torch.equal(tokenizer(some), TOKENIZE(some))
    assert len(tokenize.cache) <= 50 + 1


def test_what_was_read_is_not_read_again(tiny_model_dir: Path) -> None:
    read: list[list[str]] = []
    tokenize = open_clip.get_tokenizer(f"local-dir:{tiny_model_dir}")

    def watched(asked: list[str], context_length: int = CONTEXT) -> torch.Tensor:
        read.append(asked)
        tokens: torch.Tensor = tokenize(asked, context_length=context_length)
        return tokens

    tokenizer = Tokenizer(watched)
    long = ["a tabby cat on a table", "a " * 40]
    tokenizer(long)
    read.clear()
    assert tokenizer.cut_off([*long, "short"]) == [False, True, False]
    assert read == []
    assert tokenizer.cut_off(["something else that is long"]) == [False]
    assert read == [["something else that is long"]]
