"""An evaluation from labelled sets to results: what is measured, and in which order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import torch
from loky import cpu_count

from app import __version__
from app.clip.labels import LabelEncoder
from app.clip.model import ClipModel, FloatArray, load_chosen_model
from app.clip.precision import precision_name
from app.engine import stamp
from app.evaluation import statistics
from app.evaluation.datasets.labelled import DatasetError, LabelledImages, cropped
from app.evaluation.embeddings import EmbeddedImages, embed_images, retrieve_captions
from app.evaluation.gallery import Exhibit, choose_exhibits
from app.evaluation.protocol import Answers, Method, Votes, answer, cast_votes
from app.evaluation.results import (
    SCHEMA_VERSION,
    Comparison,
    Configuration,
    Detail,
    Estimate,
    IndexInfo,
    MeanScore,
    ModelInfo,
    ReliabilityBins,
    Results,
    Score,
    SetResult,
)
from app.evaluation.statistics import Floats
from app.index.collection import Collection
from app.index.manifest import CollectionError
from app.settings import Settings
from app.xmore.ensemble import IMAGE, TEXT
from app.xmore.retrieval import CANDIDATES, IdArray

StartProgress = Callable[[str, int], Callable[[int], object]]
"""Given what is done and how many images there are; gives what to tell how many are done."""

DETAILED = (Method.IMAGE, Method.TEXT, Method.REQUEST)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        ks: numbers of captions, ascending.
        templates: prompt ensembles by name, the first of which the report shows.
        reranks: whether candidates are re-ranked; both to compare.
        crops: views of each image that vote, 1 first; (1, 5) to compare.
        detail_k: the number of captions shown in detail; one of `ks`.
    """

    ks: Sequence[int]
    templates: dict[str, list[str]]
    reranks: Sequence[bool]
    crops: Sequence[int]
    detail_k: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A set's results, and the images that the report shows."""

    result: SetResult
    exhibits: list[Exhibit]


@dataclass(slots=True)
class _Mean:
    """Figures of one configuration, added up over sets."""

    sets: int = 0
    top1: float = 0.0
    top1_draws: Floats | float = 0.0
    differences: list[float] = field(default_factory=list)
    difference_draws: Floats | float = 0.0


def load(
    settings: Settings, directories: Sequence[Path]
) -> tuple[ClipModel, dict[str, Collection]]:
    """The model, and collections by name, checked to belong to it.

    Raises:
        ModelError: the model cannot be loaded.
        CollectionError: a collection cannot be opened or was made by another model, or two have the
            same name.
    """
    torch.set_num_threads(settings.threads or cpu_count())
    opened = [Collection.open(directory, settings.verify_index) for directory in directories]
    collections = {collection.manifest.name: collection for collection in opened}
    if len(collections) < len(opened):
        raise CollectionError("two collections have the same name; build one with another --name")
    model = load_chosen_model(settings)
    for collection in opened:
        collection.check_model(stamp(model))
    return model, collections


class _Means:
    """Means over sets. Images are resampled within each set, and each set counts the same."""

    def __init__(self) -> None:
        self._by_configuration: dict[Configuration, _Mean] = {}

    def add(self, configuration: Configuration, correct: Floats, plain: Floats | None) -> None:
        """Add a set's share of right answers an image, (n,), and that of plain CLIP."""
        mean = self._by_configuration.setdefault(configuration, _Mean())
        seed = mean.sets
        mean.sets += 1
        mean.top1 += float(correct.mean())
        mean.top1_draws = mean.top1_draws + statistics.resampled_means(correct, seed)
        if plain is not None:
            gained = correct - plain
            mean.differences.append(float(gained.mean()))
            mean.difference_draws = mean.difference_draws + statistics.resampled_means(gained, seed)

    def scores(self) -> list[MeanScore]:
        """The means, in the order in which configurations were first added."""
        return [
            MeanScore(
                configuration=configuration,
                top1=_estimate(
                    statistics.interval(mean.top1 / mean.sets, _draws(mean.top1_draws, mean.sets))
                ),
                difference=_estimate(
                    statistics.interval(
                        float(np.mean(mean.differences)), _draws(mean.difference_draws, mean.sets)
                    )
                )
                if mean.differences
                else None,
                least_difference=min(mean.differences, default=None),
            )
            for configuration, mean in self._by_configuration.items()
        ]


class Evaluation:
    """Measures a model with collections on labelled sets, one after another."""

    def __init__(
        self,
        model: ClipModel,
        collections: dict[str, Collection],
        plan: Plan,
        cache: Path,
        start_progress: StartProgress,
    ) -> None:
        """Make an evaluation.

        Args:
            model: the model.
            collections: by name; each made with the model.
            plan: what is measured.
            cache: a folder for embeddings, retrieved captions and scratch files.
            start_progress: makes a progress bar.
        """
        self._model = model
        self._collections = collections
        self._plan = plan
        self._cache = cache
        self._start_progress = start_progress
        self._labels = LabelEncoder(model.encode_texts, 0)
        self._means = _Means()

    def measure(self, dataset: LabelledImages) -> Measured:
        """Every configuration on one set.

        Raises:
            DatasetError: none of its images can be read.
        """
        images = self._embed(dataset, 0)
        if not len(images):
            first = images.unreadable[0]
            raise DatasetError(f"{dataset.name}: none of its images can be read ({first})")
        views = [images.vectors]
        views += [self._embed(dataset, n).vectors for n in range(1, max(self._plan.crops))]
        sheet = _Sheet(len(dataset.classes), images.targets, self._means)
        exhibits: list[Exhibit] = []
        for number, (name, templates) in enumerate(self._plan.templates.items()):
            w = self._labels.embed(dataset.classes, templates)
            plain = self._plain(sheet, views, w, name)
            for configuration, ids, collection in self._retrievals(dataset.name, images, name):
                with cast_votes(
                    views[: configuration.crops],
                    ids,
                    collection,
                    w,
                    self._model.logit_scale,
                    self._cache,
                ) as votes:
                    fused = self._score(sheet, votes, configuration, plain)
                    if self._is_detailed(configuration):
                        for method in DETAILED[1:]:
                            sheet.detail(_with(configuration, method), fused[method], votes)
                        if number == 0:
                            exhibits += choose_exhibits(
                                dataset, images, ids, collection, votes, fused[Method.REQUEST]
                            )
        return Measured(sheet.result(dataset, images), exhibits)

    def results(self, measured: Sequence[Measured]) -> Results:
        """All that was measured."""
        return Results(
            schema_version=SCHEMA_VERSION,
            xmore_version=__version__,
            created=datetime.now(UTC),
            model=ModelInfo(
                name=self._model.name,
                fingerprint=self._model.fingerprint,
                precision=precision_name(self._model.dtype),
                embed_dim=self._model.embed_dim,
                logit_scale=self._model.logit_scale,
            ),
            indexes=[
                IndexInfo(
                    name=name,
                    kind=collection.manifest.kind,
                    captions=collection.manifest.captions,
                    images=collection.manifest.images,
                    fingerprint=collection.manifest.fingerprint,
                )
                for name, collection in self._collections.items()
            ],
            templates=self._plan.templates,
            candidates=CANDIDATES,
            detail_k=self._plan.detail_k,
            sets=[one.result for one in measured],
            means=self._means.scores(),
        )

    def _embed(self, dataset: LabelledImages, view: int) -> EmbeddedImages:
        what = "images" if view == 0 else f"crop {view} of the images"
        progress = self._start_progress(f"{dataset.name}: {what}", dataset.size)
        return embed_images(cropped(dataset, view), self._model, self._cache, progress)

    def _is_detailed(self, c: Configuration) -> bool:
        return c.k == self._plan.detail_k and c.rerank and c.crops == 1

    def _plain(
        self, sheet: "_Sheet", views: Sequence[FloatArray], w: FloatArray, name: str
    ) -> Answers:
        """Score the image's vote, of one view and of several; gives the answers of one."""
        plain: Answers | None = None
        none = np.empty((len(views[0]), 0), np.int64)
        for crops in self._plan.crops:
            configuration = Configuration(
                index=None, templates=name, k=0, rerank=True, crops=crops, method=Method.IMAGE
            )
            with cast_votes(
                views[:crops],
                none,
                _NoCaptions(w.shape[1]),
                w,
                self._model.logit_scale,
                self._cache,
            ) as votes:
                found = answer(votes, sheet.targets, Method.IMAGE)
                sheet.score(configuration, [found], plain)
                if plain is None:
                    plain = found
                    sheet.detail(configuration, plain, votes)
        if plain is None:
            raise ValueError("a plan needs at least one number of crops")
        return plain

    def _retrievals(
        self, name: str, images: EmbeddedImages, templates: str
    ) -> Iterator[tuple[Configuration, IdArray, Collection]]:
        for index, collection in self._collections.items():
            for rerank in self._plan.reranks:
                told = self._start_progress(f"{name}: captions of {index}", len(images))
                found = retrieve_captions(
                    images, collection, self._plan.ks, rerank, self._cache, told
                )
                for crops, (k, ids) in product(self._plan.crops, found.items()):
                    configuration = Configuration(
                        index=index,
                        templates=templates,
                        k=k,
                        rerank=rerank,
                        crops=crops,
                        method=Method.REQUEST,
                    )
                    yield configuration, ids, collection

    @staticmethod
    def _score(
        sheet: "_Sheet", votes: Votes, configuration: Configuration, plain: Answers
    ) -> dict[Method, Answers]:
        """Score every method; gives the answers of each method's first seed."""
        firsts: dict[Method, Answers] = {}
        for method in Method:
            if method is not Method.IMAGE:
                answers = [answer(votes, sheet.targets, method, seed) for seed in method.seeds]
                sheet.score(_with(configuration, method), answers, plain)
                firsts[method] = answers[0]
        return firsts


@dataclass(frozen=True, slots=True)
class _NoCaptions:
    """In place of a collection, where no caption votes.

    Attributes:
        dim: d.
    """

    dim: int

    def embeddings(self, ids: IdArray) -> FloatArray:
        """Nothing."""
        return np.empty((len(ids), self.dim), np.float32)


class _Sheet:
    """The scores of one set, as they come in."""

    def __init__(self, classes: int, targets: IdArray, means: _Means) -> None:
        self.targets = targets
        self._sizes = np.bincount(targets, minlength=classes)
        self._means = means
        self._scores: list[Score] = []
        self._details: list[Detail] = []

    def score(
        self, configuration: Configuration, answers: Sequence[Answers], plain: Answers | None
    ) -> None:
        """Add a configuration by its answers, one for each seed."""
        correct = np.mean([a.correct for a in answers], axis=0)
        among_five = np.mean([a.ranks < 5 for a in answers], axis=0)  # noqa: PLR2004 - top-5
        first = answers[0]
        self._scores.append(
            Score(
                configuration=configuration,
                top1=_estimate(statistics.mean_interval(correct)),
                top5=_estimate(statistics.mean_interval(among_five)),
                seeds=[float(a.correct.mean()) for a in answers],
                calibration_error=statistics.reliability(first.probabilities, first.correct).error,
                text_weight=float(first.weights[:, TEXT].mean()),
                comparison=None if plain is None else _compare(correct, first, plain),
            )
        )
        self._means.add(
            configuration, correct, None if plain is None else plain.correct.astype(np.float64)
        )

    def detail(self, configuration: Configuration, found: Answers, votes: Votes) -> None:
        """Add details of a configuration."""
        right = np.bincount(self.targets, found.correct, len(self._sizes))
        bins = statistics.reliability(found.probabilities, found.correct)
        image, text = (statistics.histogram(votes.confidences[:, m]) for m in (IMAGE, TEXT))
        self._details.append(
            Detail(
                configuration=configuration,
                class_accuracy=[
                    float(r / size) if size else None
                    for r, size in zip(right, self._sizes, strict=True)
                ],
                reliability=ReliabilityBins(
                    counts=bins.counts.tolist(),
                    probability=bins.probability.tolist(),
                    accuracy=bins.accuracy.tolist(),
                ),
                coverage=statistics.coverage_curve(found.probabilities, found.correct).tolist(),
                image_confidence=image.tolist(),
                text_confidence=text.tolist(),
            )
        )

    def result(self, dataset: LabelledImages, images: EmbeddedImages) -> SetResult:
        """The whole sheet."""
        return SetResult(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            images=len(images),
            unreadable=images.unreadable,
            classes=dataset.classes,
            class_images=self._sizes.tolist(),
            scores=self._scores,
            details=self._details,
        )


def _with(configuration: Configuration, method: Method) -> Configuration:
    return configuration.model_copy(update={"method": method})


def _compare(correct: Floats, first: Answers, plain: Answers) -> Comparison:
    mended = int((first.correct & ~plain.correct).sum())
    spoiled = int((plain.correct & ~first.correct).sum())
    return Comparison(
        difference=_estimate(statistics.mean_interval(correct - plain.correct)),
        mended=mended,
        spoiled=spoiled,
        p_value=statistics.mcnemar(mended, spoiled),
    )


def _estimate(interval: statistics.Interval) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high)


def _draws(total: Floats | float, sets: int) -> Floats:
    return np.asarray(total) / sets
