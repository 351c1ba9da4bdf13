"""Requests and answers as they go over the wire; field names are those of the API."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.engine import Classification, Found, ImageResult, Modality
from app.index.manifest import Kind, Manifest
from app.settings import InferenceEngine

Share = Annotated[float, Field(ge=0, le=1 + 1e-6)]
Milliseconds = Annotated[float, Field(ge=0)]


class PredictionOut(BaseModel):
    """One label and its probabilities."""

    label: Annotated[str, Field(examples=["cat"])]
    probability: Annotated[Share, Field(description="The fused probability.", examples=[0.97])]
    image_probability: Annotated[
        Share, Field(description="What the image alone says (plain CLIP).", examples=[0.98])
    ]
    text_probability: Annotated[
        Share | None,
        Field(description="What the captions say; null where no caption voted.", examples=[0.91]),
    ]


class ModalityOut(BaseModel):
    """How sure one modality is, and how much it counted."""

    confidence: Annotated[
        Share, Field(description="1 - H(p) / ln(labels): 0 undecided, 1 certain.", examples=[0.81])
    ]
    weight: Annotated[Share, Field(description="Its share in the answer.", examples=[0.62])]

    @classmethod
    def of(cls, modality: Modality) -> Self:
        """From the engine's own."""
        return cls(confidence=modality.confidence, weight=modality.weight)


class ModalitiesOut(BaseModel):
    """Both modalities; their weights sum to 1."""

    image: ModalityOut
    text: ModalityOut


class CaptionOut(BaseModel):
    """A caption that was retrieved for the image and voted."""

    id: Annotated[int, Field(ge=0, description="Its row in the collection.", examples=[123])]
    text: Annotated[str, Field(examples=["a tabby cat asleep on a sofa"])]
    similarity: Annotated[
        float,
        Field(
            ge=-1.001,
            le=1.001,
            description="Cosine with the image, or with the text.",
            examples=[0.312],
        ),
    ]


class ImageResultOut(BaseModel):
    """The answer for one image."""

    filename: Annotated[str, Field(examples=["cat.jpg"])]
    predictions: Annotated[list[PredictionOut], Field(description="Best first.")]
    modalities: ModalitiesOut
    captions: Annotated[
        list[CaptionOut], Field(description="Best first; empty where none were asked for or found.")
    ]

    @classmethod
    def of(cls, result: ImageResult) -> Self:
        """From the engine's own."""
        return cls(
            filename=result.filename,
            predictions=[
                PredictionOut(
                    label=p.label,
                    probability=p.probability,
                    image_probability=p.image_probability,
                    text_probability=p.text_probability,
                )
                for p in result.predictions
            ],
            modalities=ModalitiesOut(
                image=ModalityOut.of(result.image), text=ModalityOut.of(result.text)
            ),
            captions=[
                CaptionOut(id=c.id, text=c.text, similarity=c.similarity) for c in result.captions
            ],
        )


class TimingsOut(BaseModel):
    """Milliseconds by stage, all images of the request together."""

    decode_ms: Milliseconds
    encode_ms: Milliseconds
    retrieve_ms: Milliseconds
    fuse_ms: Milliseconds
    total_ms: Annotated[Milliseconds, Field(description="From the parsed request to the answer.")]


class ClassificationOut(BaseModel):
    """The answer of `POST /v1/classify`; results are in the order of the files."""

    model: Annotated[str, Field(examples=["mini"])]
    index: Annotated[str, Field(examples=["default"])]
    results: list[ImageResultOut]
    timings: TimingsOut
    warnings: Annotated[
        list[str],
        Field(
            description="What was done otherwise than one may expect; for instance a label longer "
            "than the model's context, whose end was cut off."
        ),
    ]

    @classmethod
    def of(cls, answer: Classification, model: str, index: str, total_ms: float) -> Self:
        """From the engine's own."""
        timings = answer.timings
        return cls(
            model=model,
            index=index,
            results=[ImageResultOut.of(result) for result in answer.results],
            timings=TimingsOut(
                decode_ms=round(timings.decode_ms, 3),
                encode_ms=round(timings.encode_ms, 3),
                retrieve_ms=round(timings.retrieve_ms, 3),
                fuse_ms=round(timings.fuse_ms, 3),
                total_ms=round(total_ms, 3),
            ),
            warnings=answer.warnings,
        )


class CaptionsFoundOut(BaseModel):
    """The answer of `POST /v1/captions/search`."""

    model: Annotated[str, Field(examples=["mini"])]
    index: Annotated[str, Field(examples=["default"])]
    captions: Annotated[list[CaptionOut], Field(description="Best first, without repeats.")]

    @classmethod
    def of(cls, found: Found, model: str) -> Self:
        """From the engine's own."""
        captions = [
            CaptionOut(id=c.id, text=c.text, similarity=c.similarity) for c in found.captions
        ]
        return cls(model=model, index=found.index, captions=captions)


class ZeroShotParameters(BaseModel):
    """Parameters of the Hugging Face task."""

    model_config = ConfigDict(extra="forbid")

    candidate_labels: Annotated[
        list[str], Field(description="The labels to choose from.", examples=[["cat", "dog"]])
    ]
    hypothesis_template: Annotated[
        str | None,
        Field(description="A sentence with one `{}` for the label.", examples=["a photo of a {}."]),
    ] = None


# The smallest useful example: an 8 by 8 PNG of one colour.
_EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR42mP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElF"
    "TkSuQmCC"
)


class ZeroShotRequest(BaseModel):
    """Hugging Face's `zero-shot-image-classification` request."""

    inputs: Annotated[
        str, Field(description="The image file, base64-encoded.", examples=[_EXAMPLE_PNG])
    ]
    parameters: ZeroShotParameters


class ZeroShotLabel(BaseModel):
    """Hugging Face's answer: one label with its score."""

    label: Annotated[str, Field(examples=["cat"])]
    score: Annotated[Share, Field(examples=[0.97])]


class ModelInfo(BaseModel):
    """The model that serves."""

    name: str
    fingerprint: Annotated[str, Field(description="SHA-256 of its weights.")]
    embed_dim: int
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], Field(description="Number format of its weights.")
    ]
    device: Annotated[Literal["cpu", "cuda"], Field(description="Where it runs.")]
    engine: Annotated[InferenceEngine, Field(description="What runs the model.")]
    threads: Annotated[int, Field(ge=1, description="Threads of one pass on the CPU.")]
    batch_size: Annotated[
        int, Field(ge=1, description="Most images of concurrent requests in one pass.")
    ]
    decode_threads: Annotated[int, Field(ge=1, description="Images decoded at once.")]


class IndexInfo(BaseModel):
    """The caption collection that serves."""

    name: str
    kind: Kind
    captions: int
    images: Annotated[int | None, Field(description="Of a collection of pairs; else null.")]
    faiss: Annotated[str, Field(description="FAISS factory string.")]
    fingerprint: Annotated[str, Field(description="SHA-256 over its files.")]

    @classmethod
    def of(cls, name: str, manifest: Manifest) -> Self:
        """From a collection's manifest and the name that it is served by."""
        return cls(
            name=name,
            kind=manifest.kind,
            captions=manifest.captions,
            images=manifest.images,
            faiss=manifest.faiss.factory,
            fingerprint=manifest.fingerprint,
        )


class ReloadedOut(BaseModel):
    """The answer of `POST /v1/index/reload`: what serves from now on."""

    indexes: Annotated[list[IndexInfo], Field(description="All collections, the default first.")]


class LimitsInfo(BaseModel):
    """What one request may hold."""

    max_image_bytes: int
    max_pixels: int
    max_images: int
    max_labels: int
    max_label_length: int
    max_templates: int
    max_captions: int


class InfoOut(BaseModel):
    """The answer of `GET /v1/info`."""

    version: str
    model: ModelInfo
    index: Annotated[IndexInfo, Field(description="The default collection.")]
    indexes: Annotated[list[IndexInfo], Field(description="All collections, the default first.")]
    limits: LimitsInfo


class StatusOut(BaseModel):
    """The answer of the probes."""

    status: Annotated[str, Field(examples=["ok"])]
