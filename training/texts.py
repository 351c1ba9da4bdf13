"""Step `texts`: choose what the text tower is taught on.

Names of things (most requests are names in a prompt), glosses that explain them, real captions,
and the project's own captions, which the tower must place well because it will search them.
"""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.captions.generate import generate
from training.captions.lexicon import read_lexicons
from training.sources import (
    CLASS_NAMES,
    Places,
    is_for_training,
    normalise,
    read_captions,
    read_photos,
)
from training.wordnet import CONCRETE_LEXNAMES, Synset, concrete_nouns, read_synsets

# How many captions of each source are taken; museum titles are many and far from photos.
CAPTION_QUOTAS = {
    "coco_val2014_30k": 25_000,
    "coco_val2017": 25_000,
    "flickr30k(multi30k)": 20_000,
    "cc3m_val": 12_000,
    "cc3m_train1500": 2_000,
    "laion400m_img2dataset": 4_000,
    "laion_aesthetic_direct-cms": 4_000,
    "bing_wallpaper": 2_000,
    "tate_titles": 2_000,
    "cmoa_titles": 1_000,
    "teenie_harris": 500,
}
GLOSSES = 14_000
MAX_CHARACTERS = 160

# Patterns for the names of things, the plain one first; each name also gets one drawn by chance.
PLAIN_PROMPT = "a photo of a {}."
PROMPTS = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of {}.",
    "a picture of a {}",
    "an image of a {}.",
    "a close-up photo of a {}.",
    "a drawing of a {}.",
    "a sketch of a {}.",
    "a blurry photo of a {}.",
    "a photo of many {}.",
    "a small {}",
    "a large {}",
    "This is a photo of {}",
)


def choose(places: Places, seed: int = 0) -> list[str]:
    """All texts, each once, in an order that does not depend on anything but the data and seed."""
    synsets = read_synsets(places.wordnet)
    photos = list(read_photos(places.data))
    held_out = {normalise(c) for p in photos if not is_for_training(p) for c in p.captions}
    texts: dict[str, str] = {}
    streams: Iterable[Iterator[str]] = (
        _prompts(synsets, random.Random(seed)),
        _glosses(synsets, random.Random(seed)),
        (caption for photo in photos if is_for_training(photo) for caption in photo.captions),
        _captions(places.data, random.Random(seed)),
        (caption.text for caption in generate(read_lexicons())),
    )
    for stream in streams:
        for text in stream:
            key = normalise(text)
            if len(text) <= MAX_CHARACTERS and len(key) > 1 and key not in held_out:
                texts.setdefault(key, text)
    return list(texts.values())


def _prompts(synsets: dict[int, Synset], rng: random.Random) -> Iterator[str]:
    for name in concrete_nouns(synsets):
        yield (PLAIN_PROMPT if rng.random() < 0.3 else rng.choice(PROMPTS)).format(name)
    for name in dict.fromkeys([*CLASS_NAMES, *(entry.noun for entry in read_lexicons())]):
        yield name
        yield PLAIN_PROMPT.format(name)
        yield from (pattern.format(name) for pattern in rng.sample(PROMPTS, 2))


def _glosses(synsets: dict[int, Synset], rng: random.Random) -> Iterator[str]:
    concrete = [s for s in synsets.values() if s.lexname in CONCRETE_LEXNAMES]
    for synset in rng.sample(concrete, GLOSSES):
        yield f"{synset.lemmas[0]}, {synset.definition}"


def _captions(data: Path, rng: random.Random) -> Iterator[str]:
    by_source: dict[str, list[str]] = {source: [] for source in CAPTION_QUOTAS}
    for source, caption in read_captions(data):
        if source in by_source:
            by_source[source].append(caption)
    for source, captions in by_source.items():
        yield from rng.sample(captions, min(CAPTION_QUOTAS[source], len(captions)))
