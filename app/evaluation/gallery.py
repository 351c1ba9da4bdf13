"""Images that retrieval mended or spoiled, with the captions that did it."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.evaluation.datasets.labelled import LabelledImages
from app.evaluation.embeddings import EmbeddedImages
from app.evaluation.protocol import Answers, Votes
from app.index.collection import Collection
from app.xmore.retrieval import IdArray

EXHIBITS = 12
"""Most images shown of those mended, and of those spoiled."""

_CAPTIONS = 4
_SIDE = 192


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One image of the gallery.

    Attributes:
        index: the collection's name.
        key: the image's name within its set.
        mended: whether retrieval made it right; otherwise it made it wrong.
        picture: a JPEG of at most 192 by 192 pixels, as a data URI.
        right: its class.
        plain: plain CLIP's answer.
        fused: the answer with captions.
        plain_probability: that plain CLIP gives its answer.
        fused_probability: of the answer with captions.
        captions: those that spoke, best first.
    """

    index: str
    key: str
    mended: bool
    picture: str
    right: str
    plain: str
    fused: str
    plain_probability: float
    fused_probability: float
    captions: list[str]


def choose_exhibits(
    dataset: LabelledImages,
    images: EmbeddedImages,
    captions: IdArray,
    collection: Collection,
    votes: Votes,
    fused: Answers,
) -> list[Exhibit]:
    """The images whose answer the captions changed most surely, for better and for worse."""
    targets = images.targets
    plain_label = np.asarray(votes.image.argmax(axis=1))
    plain_probability = np.asarray(votes.image.max(axis=1))
    was_right = plain_label == targets
    exhibits = []
    for mended in (True, False):
        changed = np.flatnonzero((was_right != fused.correct) & (fused.correct == mended))
        surest = changed[np.argsort(-fused.probabilities[changed], kind="stable")]
        for row in surest[:EXHIBITS]:
            example = dataset.load(int(images.positions[row]))
            ids = np.asarray(captions[row])
            exhibits.append(
                Exhibit(
                    index=collection.manifest.name,
                    key=example.key,
                    mended=mended,
                    picture=_data_uri(example.image),
                    right=dataset.classes[targets[row]],
                    plain=dataset.classes[plain_label[row]],
                    fused=dataset.classes[fused.labels[row]],
                    plain_probability=float(plain_probability[row]),
                    fused_probability=float(fused.probabilities[row]),
                    captions=collection.texts(ids[ids >= 0][:_CAPTIONS]),
                )
            )
    return exhibits


def _data_uri(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
