"""Captions in plain alt-text English, made from the hand-written lexicon.

Each noun gives two styles, about half each. Scenes say what a photo shows ("a watchful lynx resting
on a mossy rock"). Descriptions name the thing, its everyday kind and a visible trait ("a lynx, a
wild cat with tufted ears"): they carry what the bare label does not.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from training.captions.lexicon import Entry

Style = Literal["scene", "description"]

_ARTICLE = re.compile(r"^(a|an) ", re.IGNORECASE)
# Words that begin with a vowel letter but not with a vowel sound, and the other way round.
_CONSONANT_SOUND = re.compile(
    r"^(uni|use|usu|ute\b|uti|eu|one\b|once|ukulele|ufo|u-)", re.IGNORECASE
)
_VOWEL_SOUND = re.compile(r"^(hour|honest|heir|x-ray|mp3|(suv|lcd|led|rv|fm)\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption and the noun that it speaks of."""

    text: str
    noun: str
    style: Style


def generate(entries: Iterable[Entry], seed: int = 0) -> Iterator[Caption]:
    """All captions of all entries; an entry's captions do not depend on the other entries."""
    seen: set[str] = set()
    for entry in entries:
        rng = random.Random(f"{seed}/{entry.noun}")
        captions = [Caption(text, entry.noun, "scene") for text in _scenes(entry, rng)]
        captions += [Caption(text, entry.noun, "description") for text in _descriptions(entry, rng)]
        for caption in captions:
            key = caption.text.casefold()
            if key not in seen:
                seen.add(key)
                yield caption


def _scenes(entry: Entry, rng: random.Random) -> Iterator[str]:
    """One caption a scene; most have an adjective, no adjective serves twice in a row."""
    adjectives = rng.sample(entry.adjectives, len(entry.adjectives))
    for number, scene in enumerate(entry.scenes):
        phrase = entry.phrase
        if adjectives and rng.random() < 0.7:
            phrase = with_adjective(phrase, adjectives[number % len(adjectives)])
        yield f"{phrase} {scene}"


def _descriptions(entry: Entry, rng: random.Random) -> Iterator[str]:
    """One caption a trait: phrase, kind and trait; the last one also says where it is."""
    for number, trait in enumerate(entry.traits):
        kind = entry.kinds[number % len(entry.kinds)]
        text = f"{entry.phrase}, {kind} {trait}"
        if number == len(entry.traits) - 1:
            text = f"{text}, {rng.choice(entry.scenes)}"
        yield text


def with_adjective(phrase: str, adjective: str) -> str:
    """Put an adjective before the noun, with the article that its sound asks for."""
    match = _ARTICLE.match(phrase)
    if match is None:
        return f"{adjective} {phrase}"
    rest = f"{adjective} {phrase[match.end() :]}"
    return f"{indefinite_article(rest)} {rest}"


def indefinite_article(words: str) -> str:
    """`a` or `an`, by the sound that the words begin with."""
    if _VOWEL_SOUND.match(words):
        return "an"
    if words[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(words):
        return "an"
    return "a"
