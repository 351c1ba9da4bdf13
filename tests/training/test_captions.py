"""The lexicon is well formed, and its captions read as a person would write them."""

import re
from collections import Counter

import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from app.xmore.retrieval import distinct
from training.captions.generate import Caption, generate, indefinite_article, with_adjective
from training.captions.lexicon import Entry, parse_entry, read_lexicons

LINE = (
    "lynx | a lynx | a wild cat; a forest hunter | with tufted ears; with a short tail; "
    "with spotted fur | in deep snow; on a rock; under a pine; behind a log | watchful"
)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return read_lexicons()


@pytest.fixture(scope="module")
def captions(entries: list[Entry]) -> list[Caption]:
    return list(generate(entries))


def test_a_line_is_read_into_its_columns() -> None:
    entry = parse_entry(LINE)
    assert entry.noun == "lynx"
    assert entry.kinds == ("a wild cat", "a forest hunter")
    assert len(entry.traits) == 3
    assert entry.adjectives == ("watchful",)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (" | watchful", "", "5 columns"),
        ("a wild cat; a forest hunter", "-", "no kind"),
        ("; with spotted fur", "", "2 traits"),
        ("; behind a log", "", "3 scenes"),
        ("on a rock", "in deep snow", "a scene repeats"),
        ("on a rock", "on a rock!", "unexpected character"),
        ("lynx | ", "lynx? | ", "unexpected character"),
    ],
)
def test_a_malformed_line_is_refused_with_the_reason(old: str, new: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_entry(LINE.replace(old, new, 1))


def test_every_imagenet_class_and_3000_more_nouns_have_captions(captions: list[Caption]) -> None:
    nouns = {caption.noun.casefold() for caption in captions}
    classes = {name.casefold() for name in IMAGENET_CLASSNAMES}
    assert classes <= nouns
    assert len(nouns - classes) >= 3000


def test_there_are_enough_captions_and_about_half_are_descriptions(
    captions: list[Caption],
) -> None:
    assert 30_000 <= len(captions) <= 60_000
    styles = Counter(caption.style for caption in captions)
    assert 0.4 <= styles["description"] / len(captions) <= 0.6


def test_no_caption_repeats_another(captions: list[Caption]) -> None:
    texts = [caption.text for caption in captions]
    assert len(distinct(texts)) == len(texts)
    bags = Counter(frozenset(re.findall(r"[\w'-]+", text.casefold())) for text in texts)
    assert [bag for bag, count in bags.items() if count > 1] == []


def test_no_word_follows_itself(captions: list[Caption]) -> None:
    stammer = re.compile(r"\b(?!Chow)(\w+) \1\b", re.IGNORECASE)
    assert [c.text for c in captions if stammer.search(c.text)] == []


def test_articles_agree_with_the_sound_that_follows(captions: list[Caption]) -> None:
    wrong = [
        caption.text
        for caption in captions
        for article, word in re.findall(r"\b(an?) ([a-z][\w-]+)", caption.text)
        if indefinite_article(word) != article
    ]
    assert wrong == []


def test_an_entrys_captions_do_not_depend_on_the_others(entries: list[Entry]) -> None:
    alone = [caption.text for caption in generate(entries[7:8])]
    among = [c.text for c in generate(entries[:20]) if c.noun == entries[7].noun]
    assert alone == among


@pytest.mark.parametrize(
    ("phrase", "adjective", "expected"),
    [
        ("a lynx", "old", "an old lynx"),
        ("an owl", "young", "a young owl"),
        ("a pair of scissors", "useful", "a useful pair of scissors"),
        ("fresh snow", "deep", "deep fresh snow"),
    ],
)
def test_an_adjective_brings_its_article(phrase: str, adjective: str, expected: str) -> None:
    assert with_adjective(phrase, adjective) == expected
