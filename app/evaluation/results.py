"""`results.json`: the whole of an evaluation.

`schema_version` counts up when a field changes its meaning or goes; fields may be added without
that.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.evaluation.protocol import Method
from app.index.manifest import Kind

SCHEMA_VERSION: Final = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_Model):
    """A share or a difference of shares, with its 95 % bootstrap interval over images."""

    value: float
    low: float
    high: float


class ModelInfo(_Model):
    """The model measured."""

    name: str
    fingerprint: str
    precision: str
    embed_dim: int
    logit_scale: float


class IndexInfo(_Model):
    """A collection measured."""

    name: str
    kind: Kind
    captions: int
    images: int | None
    fingerprint: str


class Comparison(_Model):
    """A method beside plain CLIP with the same templates and one view, image by image.

    Attributes:
        difference: of top-1 accuracy.
        mended: images that only the method has right (its first seed).
        spoiled: images that only plain CLIP has right (its first seed).
        p_value: McNemar's exact test on those two counts.
    """

    difference: Estimate
    mended: int
    spoiled: int
    p_value: float


class Configuration(_Model):
    """What is measured: a method with its templates, collection and number of captions.

    Attributes:
        index: the collection's name; None for plain CLIP.
        templates: the name of the prompt ensemble.
        k: captions that vote; 0 for plain CLIP.
        rerank: whether candidates are re-ranked by cos(v, t_k).
        crops: views of each image whose votes are averaged; 1 is the image alone.
        method: how the votes become one.
    """

    index: str | None
    templates: str
    k: int
    rerank: bool
    crops: int = 1
    method: Method


class Score(_Model):
    """One configuration on one set.

    Attributes:
        configuration: what was measured.
        top1: accuracy; the mean over seeds where there are several.
        top5: share of images with the right label among the five best.
        seeds: top-1 accuracy by seed.
        calibration_error: expected calibration error, 15 bins of equal width, first seed.
        text_weight: mean weight of the captions, first seed.
        comparison: with plain CLIP; None for plain CLIP itself.
    """

    configuration: Configuration
    top1: Estimate
    top5: Estimate
    seeds: list[float]
    calibration_error: float
    text_weight: float
    comparison: Comparison | None


class ReliabilityBins(_Model):
    """Bins of equal width over the probability of the answer."""

    counts: list[int]
    probability: list[float]
    accuracy: list[float]


class Detail(_Model):
    """More about one configuration on one set.

    Attributes:
        configuration: what was measured.
        class_accuracy: top-1 accuracy of each class; None where it has no image.
        reliability: calibration by bins.
        coverage: accuracy among the surest 5, 10, … 100 % of the answers.
        image_confidence: histogram of the image's confidence, 20 bins over 0 to 1.
        text_confidence: the same of the captions' confidence.
    """

    configuration: Configuration
    class_accuracy: list[float | None]
    reliability: ReliabilityBins
    coverage: list[float]
    image_confidence: list[int]
    text_confidence: list[int]


class SetResult(_Model):
    """One labelled set.

    Attributes:
        name: of the set.
        fingerprint: of its files.
        images: how many could be read.
        unreadable: the others, each with what is wrong with it.
        classes: class names, as prompts hold them.
        class_images: images of each class.
        scores: every configuration.
        details: plain CLIP, captions alone and X-MoRe of one view, for each collection and prompt
            ensemble, at the K of `Results.detail_k`.
    """

    name: str
    fingerprint: str
    images: int
    unreadable: list[str]
    classes: list[str]
    class_images: list[int]
    scores: list[Score]
    details: list[Detail]


class MeanScore(_Model):
    """One configuration over all sets, each counting the same."""

    configuration: Configuration
    top1: Estimate
    difference: Estimate | None
    least_difference: float | None


class Results(_Model):
    """The whole of `results.json`."""

    schema_version: Annotated[Literal[1], Field(description="Version of this form.")]
    xmore_version: str
    created: datetime
    model: ModelInfo
    indexes: list[IndexInfo]
    templates: dict[str, list[str]]
    candidates: int
    detail_k: int
    sets: list[SetResult]
    means: list[MeanScore]
