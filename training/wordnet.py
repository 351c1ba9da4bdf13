"""WordNet's nouns, read from its database files: names for prompts, and the tree over ImageNet."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from timm.data.imagenet_info import ImageNetInfo

# Lexicographer files (lexnames(5WN)) of nouns that can be photographed.
CONCRETE_LEXNAMES = {
    5: "animal",
    6: "artifact",
    8: "body",
    11: "event",
    13: "food",
    15: "location",
    17: "object",
    18: "person",
    19: "phenomenon",
    20: "plant",
    25: "shape",
    27: "substance",
}


@dataclass(frozen=True, slots=True)
class Synset:
    """One noun sense: its offset in the file, words, gloss and the senses just above it."""

    offset: int
    lexname: int
    lemmas: tuple[str, ...]
    gloss: str
    hypernyms: tuple[int, ...]

    @property
    def definition(self) -> str:
        """The gloss without its examples."""
        return self.gloss.split('; "')[0].strip()


def read_synsets(dict_dir: Path) -> dict[int, Synset]:
    """Read `data.noun` (format: wndb(5WN)) into synsets by offset."""
    synsets = {}
    for line in (dict_dir / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        data, gloss = line.split(" | ", 1)
        fields = data.split()
        word_count = int(fields[3], 16)
        lemmas = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * word_count : 2])
        pointers = fields[5 + 2 * word_count :]
        hypernyms = tuple(
            int(pointers[i + 1])
            for i in range(0, len(pointers) - 3, 4)
            if pointers[i] in ("@", "@i")
        )
        offset = int(fields[0])
        synsets[offset] = Synset(offset, int(fields[1]), lemmas, gloss.strip(), hypernyms)
    return synsets


def read_sense_counts(dict_dir: Path) -> dict[tuple[str, int], int]:
    """How often each (lemma, offset) of a noun was seen in WordNet's tagged texts."""
    counts = {}
    for line in (dict_dir / "index.sense").read_text(encoding="utf-8").splitlines():
        key, offset, _, count = line.split()
        lemma, sense = key.split("%")
        if sense.startswith("1:"):
            counts[lemma.replace("_", " "), int(offset)] = int(count)
    return counts


def concrete_nouns(synsets: dict[int, Synset]) -> list[str]:
    """Common names of things that can be photographed, at most three words each, in file order."""
    names: dict[str, None] = {}
    for synset in synsets.values():
        if synset.lexname not in CONCRETE_LEXNAMES:
            continue
        for lemma in synset.lemmas:
            lower_case = lemma == lemma.lower() and lemma.replace(" ", "").isalpha()
            if lower_case and lemma.count(" ") < 3:
                names.setdefault(lemma)
    return list(names)


def imagenet_synsets(synsets: dict[int, Synset]) -> list[Synset]:
    """The 1000 ImageNet classes in the classifier's order.

    timm names them by WordNet 3.0 offsets, which later versions moved, so a class is found again
    by its lemmas and, among several, by the words that its definitions share.
    """
    info = ImageNetInfo("imagenet-1k")
    by_lemma: dict[str, list[Synset]] = defaultdict(list)
    for synset in synsets.values():
        for lemma in synset.lemmas:
            by_lemma[lemma.casefold()].append(synset)
    found = []
    for index in range(info.num_classes()):
        description = info.index_to_description(index, detailed=True)
        lemmas, _, definition = description.partition(": ")
        words = {lemma.strip().casefold() for lemma in lemmas.split(",")}
        candidates = {s.offset: s for word in words for s in by_lemma[word]}
        found.append(max(candidates.values(), key=lambda s: _overlap(s, words, definition)))
    return found


def _overlap(synset: Synset, lemmas: set[str], definition: str) -> tuple[float, int]:
    ours, theirs = set(synset.definition.split()), set(definition.split())
    shared = len(ours & theirs) / max(1, len(ours | theirs))
    return shared, len(lemmas & {lemma.casefold() for lemma in synset.lemmas})


@dataclass(frozen=True, slots=True)
class Tree:
    """The part of WordNet above the 1000 classes.

    `names` has a name a node; `paths[c]` the nodes from the root down to class c's own node.
    """

    names: list[str]
    paths: list[list[int]]

    def cut(self, draws: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Cut each path at its first node that was drawn, or at its end.

        Classes below the same node are cut at the same place, so the cut is a partition.

        Args:
            draws: one random number in [0, 1) a node.
            threshold: a node is drawn if its number is below; larger cuts higher up.

        Returns:
            The nodes of the cut, (n,), and for each class its row among them, (1000,).
        """
        ends = [
            next((node for node in path if draws[node] < threshold), path[-1])
            for path in self.paths
        ]
        nodes, rows = np.unique(np.asarray(ends), return_inverse=True)
        return nodes, rows


# Nodes too abstract to be anyone's label; cuts begin below them.
_ABSTRACT = {
    "entity", "physical entity", "object", "whole", "matter", "abstraction", "thing", "unit",
    "psychological feature", "instrumentality", "artifact", "causal agent", "process", "part",
    "living thing", "location", "covering", "source", "protection", "cover",
}  # fmt: skip


def imagenet_tree(
    synsets: dict[int, Synset], counts: dict[tuple[str, int], int], class_names: list[str]
) -> Tree:
    """One path a class, along first hypernyms; leaves have the names that CLIP uses."""
    names: list[str] = []
    node_of: dict[int, int] = {}
    paths = []
    for leaf, synset in enumerate(imagenet_synsets(synsets)):
        chain = [synset]
        while chain[-1].hypernyms:
            chain.append(synsets[chain[-1].hypernyms[0]])
        path = []
        for ancestor in reversed(chain[1:]):
            if _ABSTRACT & set(ancestor.lemmas):
                continue
            if ancestor.offset not in node_of:
                node_of[ancestor.offset] = len(names)
                names.append(_everyday_name(ancestor, counts))
            path.append(node_of[ancestor.offset])
        names.append(class_names[leaf])
        paths.append([*path, len(names) - 1])
    return Tree(names, paths)


def _everyday_name(synset: Synset, counts: dict[tuple[str, int], int]) -> str:
    """The lemma that people use most."""
    return max(synset.lemmas, key=lambda lemma: counts.get((lemma.lower(), synset.offset), 0))
