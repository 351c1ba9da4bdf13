"""`python -m training STEP`: make `models/mini` and `index_data/default`, step by step.

Every step keeps what it made under --work and does not do it twice; a killed step goes on where it
was.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import TextTransformer

from app.clip.model import load_model
from app.embedder import ClipEmbedder
from app.index.build import Options, build_collection
from app.index.sources.detect import captions_in_memory
from app.settings import ROOT, Precision, Settings
from training.backbone import load_classifier
from training.captions.generate import generate
from training.captions.lexicon import read_lexicons
from training.config import EMBED_DIM
from training.export import assemble, export
from training.features import Features, extract
from training.head import JointSpace, Names, Photos, Recipe, train_head
from training.recall import text_to_image_recall
from training.sources import CLASS_NAMES, Photo, Places, is_for_training, read_photos
from training.teacher import EmbeddingCache
from training.text_tower import Schedule, embed_texts, train_text_tower
from training.texts import PLAIN_PROMPT, choose
from training.wordnet import imagenet_tree, read_sense_counts, read_synsets

MODEL_DIR = ROOT / "models" / "mini"
INDEX_DIR = ROOT / "index_data" / "default"

logger = logging.getLogger("training")


class Run:
    """One run of the pipeline; each method is a step and reads what the ones before it left."""

    def __init__(self, places: Places) -> None:
        self._places = places
        places.work.mkdir(parents=True, exist_ok=True)

    def texts(self) -> list[str]:
        """Choose the texts."""
        path = self._places.work / "texts.txt"
        if not path.exists():
            path.write_text("\n".join(choose(self._places)), encoding="utf-8")
        return path.read_text(encoding="utf-8").split("\n")

    def teacher(self) -> EmbeddingCache:
        """Embed the texts with the teacher."""
        embeddings = EmbeddingCache(self._places.work / "teacher")
        embeddings.fill(self.texts())
        return embeddings

    def text(self) -> TextTransformer:
        """Train the text tower."""
        targets = self.teacher().lookup(self.texts())
        return train_text_tower(self.texts(), targets, self._places.work, Schedule())

    def features(self) -> Features:
        """Extract image features."""
        photos = [photo for photo in read_photos(self._places.data) if is_for_training(photo)]
        return extract(photos, self._places.work)

    def head(self) -> JointSpace:
        """Train the head."""
        path = self._places.work / "head.pt"
        classifier = load_classifier().classifier
        if path.exists():
            # What the head starts from is overwritten by what it learned.
            space = JointSpace(classifier, torch.zeros(len(CLASS_NAMES), EMBED_DIM), Recipe())
            space.load_state_dict(torch.load(path, weights_only=True))
            return space.eval()
        tower = self.text()
        synsets = read_synsets(self._places.wordnet)
        counts = read_sense_counts(self._places.wordnet)
        tree = imagenet_tree(synsets, counts, CLASS_NAMES)
        names = _names(tower, tree.names)
        photos = _photos(self.features(), tower)
        space = train_head(photos, names, tree, classifier, Recipe())
        torch.save(space.state_dict(), path)
        return space

    def export(self) -> None:
        """Write models/mini."""
        state = assemble(load_classifier().state_dict(), self.text().state_dict(), self.head())
        export(state, MODEL_DIR)

    def captions(self) -> None:
        """Write index_data/default with models/mini."""
        model = load_model(f"local-dir:{MODEL_DIR}", None, Precision.FP32)
        captions = [caption.text for caption in generate(read_lexicons())]
        # Eight bits, where the builder would take sixteen at this size: the repository carries it.
        built = build_collection(
            [captions_in_memory(captions)],
            INDEX_DIR,
            ClipEmbedder(model, Settings().max_pixels),
            Options(name="default", factory="IVF256,SQ8"),
        )
        logger.info("%d captions, %s", built.manifest.captions, built.manifest.faiss.factory)

    def recall(self) -> None:
        """Measure models/mini on the test split of Flickr8k."""
        model = load_model(f"local-dir:{MODEL_DIR}", None, Precision.FP32)
        test = [photo for photo in read_photos(self._places.data) if _held_out(photo)]
        recall = text_to_image_recall(model, test)
        logger.info("Flickr8k, %d test photos: text-to-image R@5 %.1f %%", len(test), recall)


def _held_out(photo: Photo) -> bool:
    return photo.key.startswith("flickr8k") and photo.split == "test"


def _names(tower: TextTransformer, nodes: list[str]) -> Names:
    # Some classes share a name: ImageNet has sunglasses twice.
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(CLASS_NAMES):
        rows[name.casefold()].append(row)
    own = [
        (caption.text, row)
        for caption in generate(read_lexicons())
        for row in rows.get(caption.noun.casefold(), ())
    ]
    return Names(
        classes=embed_texts(tower, [PLAIN_PROMPT.format(name) for name in CLASS_NAMES]),
        nodes=embed_texts(tower, [PLAIN_PROMPT.format(name) for name in nodes]),
        captions=embed_texts(tower, [text for text, _ in own]),
        captions_class=torch.tensor([row for _, row in own]),
    )


def _photos(features: Features, tower: TextTransformer) -> Photos:
    counts = torch.tensor([len(captions) for captions in features.captions])
    return Photos(
        features=torch.from_numpy(features.pooled),
        captions=embed_texts(tower, [c for captions in features.captions for c in captions]),
        first=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)[:-1]])),
        count=counts,
    )


def main() -> None:
    """Run one step, or all of them in order."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps: dict[str, Callable[[Run], object]] = {
        "texts": Run.texts,
        "teacher": Run.teacher,
        "text": Run.text,
        "features": Run.features,
        "head": Run.head,
        "export": Run.export,
        "captions": Run.captions,
        "recall": Run.recall,
    }
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("step", choices=[*steps, "all"])
    parser.add_argument("--data", type=Path, required=True, help="folder with pairs/, text/, eval/")
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet 3.1's dict folder")
    parser.add_argument("--work", type=Path, default=Path("training/scratch"))
    arguments = parser.parse_args()
    run = Run(Places(arguments.data, arguments.wordnet, arguments.work))
    for name, step in steps.items():
        if arguments.step in (name, "all"):
            logger.info("step %s", name)
            step(run)


if __name__ == "__main__":
    main()
