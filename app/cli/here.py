"""Answers from this process: model and captions are loaded once, images go through in batches."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from app.cli.asked import Answer, Asked, BadImage, shown
from app.client.results import Caption, ImageResult, Modalities, Modality, Prediction
from app.clip.labels import DEFAULT_TEMPLATE
from app.engine import (
    DEFAULT_CAPTIONS,
    BadImageError,
    DecodedImage,
    EncodedImages,
    Engine,
    ImageFile,
    Question,
    Timings,
)
from app.engine import ImageResult as EngineResult
from app.engine import Modality as EngineModality
from app.index.manifest import CollectionError
from app.index.place import parse_place
from app.settings import Settings
from app.xmore.ensemble import Fusion

T = TypeVar("T")
U = TypeVar("U")

_BATCH = 32
"""Images in one pass of the model."""

_AHEAD = 2 * _BATCH
"""Images that are decoded, or being decoded, before the model is ready for them."""

_DECODERS = 4


def question_of(asked: Asked) -> Question:
    """As the engine wants it."""
    return Question(
        labels=asked.labels,
        templates=asked.templates or [DEFAULT_TEMPLATE],
        captions=DEFAULT_CAPTIONS if asked.captions is None else asked.captions,
        fusion=Fusion.CONFIDENCE if asked.fusion is None else Fusion(asked.fusion),
        top_k=asked.top_k,
        crops=asked.crops,
        index=asked.index,
    )


def load_engine(settings: Settings, question: Question) -> Engine:
    """An engine for the question.

    Raises:
        ModelError: the model cannot be loaded.
        CollectionError: the collection cannot be opened, or was made by another model.
        LabelFileError: the file of labels, or of their embeddings, cannot be used.
        UnknownCollectionError: the question names a collection that is not open.
    """
    engine = Engine.load(settings)
    engine.choose(question.index)
    return engine


def answers(
    engine: Engine, question: Question, paths: Sequence[str], warn: Callable[[str], None]
) -> Generator[Answer]:
    """One answer an image, in order, while the next images are being decoded.

    Args:
        engine: see `load_engine`.
        question: what is asked about each image.
        paths: image files.
        warn: told once what was done otherwise than one may expect.
    """
    chosen = engine.choose(question.index)
    w = engine.labels.embed(question.labels, question.templates)
    pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
    try:
        decode = partial(_decode, engine, crops=question.crops)
        decoded = _in_order(pool, decode, paths, _AHEAD)
        first = True
        while batch := list(islice(decoded, _BATCH)):
            good = [image for image in batch if isinstance(image, DecodedImage)]
            results: Iterator[ImageResult] = iter(())
            if good:
                answer = engine.answer(_encode(engine, good), w, question, chosen)
                results = map(_result, answer.results)
                for warning in answer.warnings if first else ():
                    warn(warning)
                first = False
            for image in batch:
                yield next(results) if isinstance(image, DecodedImage) else image
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(engine: Engine, images: Sequence[DecodedImage]) -> EncodedImages:
    rows = engine.model.encode_images([view for image in images for view in image.views])
    return EncodedImages.of(images, list(rows), Timings())


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[T], U], items: Iterable[T], ahead: int
) -> Iterator[U]:
    """`map` over a pool that begins no more than `ahead` items early."""
    waiting: deque[Future[U]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode(engine: Engine, path: str, *, crops: bool) -> DecodedImage | BadImage:
    name = shown(path)
    try:
        return engine.decode(ImageFile(name, Path(path).read_bytes()), crops=crops)
    except BadImageError as error:
        return BadImage(name, str(error.cause))
    except OSError as error:
        return BadImage(name, f"cannot be read ({error.strerror})")


def _result(result: EngineResult) -> ImageResult:
    return ImageResult(
        filename=result.filename,
        predictions=tuple(
            Prediction(p.label, p.probability, p.image_probability, p.text_probability)
            for p in result.predictions
        ),
        modalities=Modalities(image=_modality(result.image), text=_modality(result.text)),
        captions=tuple(Caption(c.id, c.text, c.similarity) for c in result.captions),
    )


def _modality(modality: EngineModality) -> Modality:
    return Modality(modality.confidence, modality.weight)


def with_index(settings: Settings, question: Question) -> tuple[Settings, Question]:
    """Where the question's index is a directory or a Milvus URL, and no name, open it instead."""
    index = question.index
    names = [name for name, _ in settings.collections]
    if index is None or index in names:
        return settings, question
    try:
        place = parse_place(index)
    except ValueError as error:
        raise CollectionError(f"{index}: {error}") from None
    if isinstance(place, Path) and not place.is_dir():
        return settings, question
    return settings.model_copy(update={"index": index}), replace(question, index=None)
