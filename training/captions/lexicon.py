"""The hand-written vocabulary of the caption collection: its entries, read and checked.

A lexicon file holds one noun a line, six columns parted by " | ":

    noun | phrase | kinds | traits | scenes | adjectives

`noun` is the bare name ("lynx"), `phrase` how a caption says it ("a lynx"), `kinds` its everyday
kinds ("a wild cat"), `traits` what one sees of it ("with tufted ears"), `scenes` what may follow
the phrase ("walking through deep snow"), `adjectives` what may stand before the noun ("watchful"),
or "-". Items in a column are parted by ";". Lines that start with "#" and blank lines are skipped.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEXICON_DIR = Path(__file__).parent / "lexicon"

_COLUMNS = 6
_MIN_TRAITS = 3
_MIN_SCENES = 4
_ITEM = re.compile(r"[A-Za-z0-9 ,'\-]+")
# Names of ImageNet classes also tell senses apart: "kite (bird of prey)", "carton / box".
_NOUN = re.compile(r"[A-Za-z0-9 ,'\-/().]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One noun with everything that its captions are made of."""

    noun: str
    phrase: str
    kinds: tuple[str, ...]
    traits: tuple[str, ...]
    scenes: tuple[str, ...]
    adjectives: tuple[str, ...]


def parse_entry(line: str) -> Entry:
    """Read one line of a lexicon.

    Raises:
        ValueError: a column is missing, too short, or holds a character that captions do not use.
    """
    columns = [column.strip() for column in line.split("|")]
    if len(columns) != _COLUMNS:
        raise ValueError(f"{len(columns)} columns, expected {_COLUMNS}")
    noun, phrase = columns[:2]
    kinds, traits, scenes, adjectives = (
        tuple(item.strip() for item in column.split(";") if item.strip() not in ("", "-"))
        for column in columns[2:]
    )
    if not kinds:
        raise ValueError("no kind")
    if len(traits) < _MIN_TRAITS:
        raise ValueError(f"{len(traits)} traits, expected at least {_MIN_TRAITS}")
    if len(scenes) < _MIN_SCENES:
        raise ValueError(f"{len(scenes)} scenes, expected at least {_MIN_SCENES}")
    if not _NOUN.fullmatch(noun):
        raise ValueError(f"unexpected character in {noun!r}")
    for item in (phrase, *kinds, *traits, *scenes, *adjectives):
        if not _ITEM.fullmatch(item):
            raise ValueError(f"unexpected character in {item!r}")
    for name, items in (("trait", traits), ("scene", scenes), ("adjective", adjectives)):
        if len(set(items)) != len(items):
            raise ValueError(f"a {name} repeats")
    return Entry(noun, phrase, kinds, traits, scenes, adjectives)


def read_lexicon(path: Path) -> Iterator[Entry]:
    """Yield the entries of one lexicon file in order.

    Raises:
        ValueError: a line is malformed; the message names file and line.
    """
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            yield parse_entry(line)
        except ValueError as error:
            raise ValueError(f"{path.name}:{number}: {error}") from None


def read_lexicons(directory: Path = LEXICON_DIR) -> list[Entry]:
    """All entries of a directory; the first entry of a noun wins."""
    entries: dict[str, Entry] = {}
    for path in sorted(directory.glob("*.txt")):
        for entry in read_lexicon(path):
            entries.setdefault(entry.noun.casefold(), entry)
    return list(entries.values())


def main() -> None:
    """Check lexicon files and print how many entries each has."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=sorted(LEXICON_DIR.glob("*.txt")))
    for path in parser.parse_args().paths:
        failures = 0
        entries = 0
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                parse_entry(line)
                entries += 1
            except ValueError as error:
                failures += 1
                print(f"{path.name}:{number}: {error}: {line[:60]}")
        print(f"{path.name}: {entries} entries, {failures} malformed lines")


if __name__ == "__main__":
    main()
