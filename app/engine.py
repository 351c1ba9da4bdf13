"""The whole way from images and labels to an answer: the only place that knows every piece."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from time import perf_counter
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from loky import cpu_count
from threadpoolctl import threadpool_limits
from torch import Tensor

from app.clip.crops import CROPS, crop
from app.clip.decode import ImageError, decode_image
from app.clip.labels import DEFAULT_TEMPLATE, LabelEncoder, fill, read_labels
from app.clip.model import ClipModel, load_chosen_model
from app.clip.precision import precision_name
from app.clip.prompt_store import SqlitePrompts
from app.index.catalog import Catalog, NamedPlace
from app.index.manifest import CollectionAwayError, ModelStamp
from app.index.opening import OpenCollection
from app.settings import IndexAway, Settings
from app.xmore.ensemble import (
    IMAGE,
    TEXT,
    Ensemble,
    Fusion,
    Normalization,
    Probabilities,
    ensemble,
)
from app.xmore.retrieval import RetrievedCaptions, retrieve

FloatArray = npt.NDArray[np.float32]

DEFAULT_CAPTIONS = 16
MAX_CAPTIONS = 64

_LABEL_SETS = 64
"""Of so many it is kept which labels are too long; a thousand labels take half a millisecond."""

ServingNormalization = Literal[Normalization.REQUEST, Normalization.BATCH]
"""What a request may ask for; its answer must not depend on requests before it."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image as it came: its name, for answers and errors, and its bytes."""

    filename: str
    data: bytes


class BadImageError(Exception):
    """One of the images of a request cannot be used."""

    def __init__(self, position: int, filename: str, cause: ImageError) -> None:
        super().__init__(f"{filename}: {cause}")
        self.position = position
        self.filename = filename
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about the images of a request.

    Attributes:
        labels: at least one, distinct.
        templates: each holds one `{}`.
        captions: K, how many captions vote; 0 asks for plain CLIP.
        fusion: how the votes of image and captions become one.
        normalization: how confidences become weights.
        top_k: how many predictions are returned; None for all.
        index: the collection to retrieve from, by name; None for the default.
        votes: whether each caption tells what it says on each label.
        crops: whether the corners of each image vote with it, see `app.clip.crops`.
    """

    labels: Sequence[str]
    templates: Sequence[str] = (DEFAULT_TEMPLATE,)
    captions: int = DEFAULT_CAPTIONS
    fusion: Fusion = Fusion.CONFIDENCE
    normalization: ServingNormalization = Normalization.REQUEST
    top_k: int | None = None
    index: str | None = None
    votes: bool = False
    crops: bool = False


class Prediction(NamedTuple):
    """One label with its probabilities; `text_probability` is None where no caption voted.

    A tuple, since a thousand of them are made for a request: quicker than a dataclass.
    """

    label: str
    probability: float
    image_probability: float
    text_probability: float | None


@dataclass(frozen=True, slots=True)
class Modality:
    """How sure a modality is, and how much it counted; both in [0, 1]."""

    confidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A retrieved caption.

    Attributes:
        id: its row in the collection.
        text: as the collection has it.
        similarity: its cosine with what was searched.
        votes: p_k, a probability a label; None where they were not asked for.
    """

    id: int
    text: str
    similarity: float
    votes: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The answer for one image: predictions best first, and the reasons."""

    filename: str
    predictions: list[Prediction]
    image: Modality
    text: Modality
    captions: list[Caption]


@dataclass(slots=True)
class Timings:
    """Milliseconds spent in each stage, for all images of a request together."""

    decode_ms: float = 0.0
    encode_ms: float = 0.0
    retrieve_ms: float = 0.0
    fuse_ms: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the stage `name`."""
        start = perf_counter()
        try:
            yield
        finally:
            elapsed = 1000 * (perf_counter() - start)
            attribute = f"{name}_ms"
            setattr(self, attribute, getattr(self, attribute) + elapsed)


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer to one request.

    Attributes:
        results: one an image, in the order of the images.
        timings: of all images together.
        index: the collection that captions were retrieved from.
        warnings: what was done otherwise than one may expect.
        degraded: whether the collection did not answer, so that no caption voted.
    """

    results: list[ImageResult]
    timings: Timings
    index: str
    warnings: list[str] = field(default_factory=list)
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The captions found for a query, best first, and the collection that they are from."""

    captions: list[Caption]
    index: str


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image ready for the image tower, and the time that it took to get there.

    Attributes:
        filename: its name.
        pixels: what the image tower reads.
        decode_ms: milliseconds.
        crops: the same of its corners, where they are to vote.
    """

    filename: str
    pixels: Tensor
    decode_ms: float
    crops: Sequence[Tensor] = ()

    @property
    def views(self) -> list[Tensor]:
        """All that is to be encoded, the image itself first."""
        return [self.pixels, *self.crops]


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """The images of a request, encoded.

    Attributes:
        filenames: one an image.
        views: unit-norm embeddings, (images, views, d), of each image itself first.
        timings: what they took so far.
    """

    filenames: Sequence[str]
    views: FloatArray
    timings: Timings

    @classmethod
    def of(
        cls, images: Sequence[DecodedImage], rows: Sequence[FloatArray], timings: Timings
    ) -> Self:
        """From the embeddings, (d,), of all views of the images, in order."""
        views = np.stack(rows).reshape(len(images), -1, rows[0].shape[-1])
        return cls([image.filename for image in images], views, timings)

    @property
    def v(self) -> FloatArray:
        """Embeddings of the images themselves, (images, d)."""
        return self.views[:, 0]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A collection with the name that it is served by."""

    name: str
    collection: OpenCollection


@dataclass(frozen=True, slots=True)
class Engine:
    """A model and collections that belong together. Methods may be called from any thread."""

    model: ClipModel
    catalog: Catalog
    labels: LabelEncoder
    max_pixels: int
    reduced_jpeg: bool
    verify_index: bool
    index_away: IndexAway
    threads: int
    _cut_labels: Callable[[tuple[str, ...], tuple[str, ...]], list[int]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Remember which labels are too long."""
        remembered = lru_cache(_LABEL_SETS)(partial(_cut_labels, self.model))
        object.__setattr__(self, "_cut_labels", remembered)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load model and collections, and check that they belong together.

        Raises:
            ModelError: the model cannot be loaded.
            CollectionError: the collection cannot be opened, or was made by another model.
            LabelFileError: the file of labels, or of their embeddings, cannot be used.
        """
        threads = settings.threads or cpu_count()
        torch.set_num_threads(threads)
        # numpy's products here are small; its threads would go on spinning beside torch's.
        threadpool_limits(1, "blas")
        # The manifest is read first: a wrong path should not cost the loading of a model.
        places = [NamedPlace(name, place) for name, place in settings.collections]
        catalog = Catalog.open(places, settings.verify_index, settings.milvus)
        model = load_chosen_model(settings)
        catalog.check_model(stamp(model))
        labels = LabelEncoder(
            model.encode_texts, settings.label_cache_size, _store(model, settings)
        )
        if settings.warm_labels is not None:
            warm = read_labels(settings.warm_labels)
            labels.encode([fill(DEFAULT_TEMPLATE, label) for label in warm])
        return cls(
            model=model,
            catalog=catalog,
            labels=labels,
            max_pixels=settings.max_pixels,
            reduced_jpeg=settings.reduced_jpeg,
            verify_index=settings.verify_index,
            index_away=settings.index_away,
            threads=threads,
        )

    def reload(self) -> None:
        """Open the collections again and swap them in.

        Raises:
            ReloadError: one of them is bad; the old ones go on serving.
        """
        self.catalog.reload(stamp(self.model), self.verify_index)

    def decode(self, file: ImageFile, position: int = 0, crops: bool = False) -> DecodedImage:
        """Decode and preprocess one image of a request, and its corners where they are to vote.

        Raises:
            BadImageError: it cannot be read or is too large.
        """
        start = perf_counter()
        try:
            # A corner of a reduced image would have fewer pixels than the model reads.
            reduced = self.reduced_jpeg and not crops
            enough = self.model.preprocess.enough if reduced else None
            image = decode_image(file.data, self.max_pixels, enough)
        except ImageError as error:
            raise BadImageError(position, file.filename, error) from error
        pixels = self.model.pixels(image)
        numbers = range(1, CROPS) if crops else ()
        corners = [self.model.pixels(crop(image, number)) for number in numbers]
        elapsed_ms = 1000 * (perf_counter() - start)
        return DecodedImage(file.filename, pixels, elapsed_ms, corners)

    def choose(self, index: str | None) -> Chosen:
        """The collection of this name, or the default; it stays the same while it is held on to.

        Raises:
            UnknownCollectionError: no collection of this name is open.
        """
        return Chosen(*self.catalog.choose(index))

    def answer(
        self, images: EncodedImages, w: FloatArray, question: Question, chosen: Chosen
    ) -> Classification:
        """Retrieve and fuse: the two steps of the method, once images and labels are encoded.

        Args:
            images: at least one.
            w: label embeddings, (labels, d).
            question: labels and how to decide between them.
            chosen: the collection to retrieve from.

        Raises:
            CollectionAwayError: the collection does not answer, and `index_away` is to refuse.
        """
        timings = images.timings
        with timings.stage("retrieve"):
            captions, degraded = self._retrieve(images.v, question.captions, chosen)
        with timings.stage("fuse"):
            fused = ensemble(
                images.views,
                [found.embeddings for found in captions],
                w,
                self.model.logit_scale,
                question.fusion,
                question.normalization,
            )
            results = [
                _image_result(filename, row, fused, captions[row], question)
                for row, filename in enumerate(images.filenames)
            ]
        warnings = self._warnings(question)
        if degraded:
            warnings.append(
                f"the caption collection '{chosen.name}' does not answer: this is plain CLIP"
            )
        return Classification(results, timings, chosen.name, warnings, degraded)

    def _retrieve(
        self, v: FloatArray, k: int, chosen: Chosen
    ) -> tuple[list[RetrievedCaptions], bool]:
        """The captions of each image, and whether there are none because nobody answers."""
        try:
            return retrieve(v, chosen.collection, k), False
        except CollectionAwayError:
            if self.index_away is IndexAway.REFUSE:
                raise
            return retrieve(v, chosen.collection, 0), True

    def search(self, embedding: FloatArray, k: int, chosen: Chosen) -> Found:
        """The k captions of a collection that fit an image or a text, (d,), best.

        Raises:
            CollectionAwayError: the collection does not answer.
        """
        found = retrieve(embedding[np.newaxis], chosen.collection, k)[0]
        return Found(_captions(found), chosen.name)

    def _warnings(self, question: Question) -> list[str]:
        """What of the question does not fit into the model's context."""
        cut = self._cut_labels(tuple(question.labels), tuple(question.templates))
        return [
            f"label {position + 1} is longer than the model reads: its end was cut off"
            for position in cut
        ]

    def classify(self, files: Sequence[ImageFile], question: Question) -> Classification:
        """Decode and answer in the calling thread.

        Raises:
            BadImageError: one of the images cannot be used.
            UnknownCollectionError: the question names a collection that is not open.
            CollectionAwayError: the collection does not answer, and `index_away` is to refuse.
        """
        chosen = self.choose(question.index)
        images = [
            self.decode(file, position, question.crops) for position, file in enumerate(files)
        ]
        timings = Timings(decode_ms=sum(image.decode_ms for image in images))
        with timings.stage("encode"):
            rows = self.model.encode_images([view for image in images for view in image.views])
            w = self.labels.embed(question.labels, question.templates)
        return self.answer(EncodedImages.of(images, list(rows), timings), w, question, chosen)


def _cut_labels(model: ClipModel, labels: tuple[str, ...], templates: tuple[str, ...]) -> list[int]:
    """Positions of the labels that with one of the templates exceed the model's context."""
    prompts = [fill(template, label) for label in labels for template in templates]
    cut = model.cut_off(prompts)
    return sorted({number // len(templates) for number, is_cut in enumerate(cut) if is_cut})


def _store(model: ClipModel, settings: Settings) -> SqlitePrompts | None:
    if settings.label_cache_file is None:
        return None
    kind = f"{model.fingerprint} {precision_name(model.dtype)}"
    return SqlitePrompts(
        settings.label_cache_file, kind, model.embed_dim, settings.label_cache_size
    )


def stamp(model: ClipModel) -> ModelStamp:
    """What a collection's manifest keeps of a model."""
    return ModelStamp(name=model.name, fingerprint=model.fingerprint, embed_dim=model.embed_dim)


def _image_result(
    filename: str, row: int, fused: Ensemble, captions: RetrievedCaptions, question: Question
) -> ImageResult:
    best = np.argsort(-fused.probabilities[row], kind="stable")[: question.top_k]
    votes = (fused.probabilities, fused.image, fused.text)
    p, p_image, p_text = (vote[row, best].tolist() for vote in votes)
    if not len(captions):
        p_text = [None] * len(p)
    labels = [question.labels[c] for c in best.tolist()]
    return ImageResult(
        filename=filename,
        predictions=list(map(Prediction._make, zip(labels, p, p_image, p_text, strict=True))),
        image=_modality(fused, row, IMAGE),
        text=_modality(fused, row, TEXT),
        captions=_voting(_captions(captions), fused.captions[row], question),
    )


def _voting(captions: list[Caption], votes: Probabilities, question: Question) -> list[Caption]:
    """The captions with what each says, (captions, labels), where that was asked for."""
    if not question.votes:
        return captions
    return [
        replace(caption, votes=dict(zip(question.labels, row, strict=True)))
        for caption, row in zip(captions, votes.tolist(), strict=True)
    ]


def _captions(found: RetrievedCaptions) -> list[Caption]:
    return [
        Caption(int(id_), text, float(similarity))
        for id_, text, similarity in zip(found.ids, found.texts, found.similarities, strict=True)
    ]


def _modality(fused: Ensemble, row: int, column: int) -> Modality:
    return Modality(float(fused.confidences[row, column]), float(fused.weights[row, column]))
