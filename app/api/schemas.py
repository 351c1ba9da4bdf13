"""Requests and answers as they go over the wire; field names are those of the API."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.clip.labels import DEFAULT_TEMPLATE
from app.engine import MAX_CAPTIONS, Classification, Found, ImageResult, Modality
from app.index.manifest import Kind, Manifest
from app.index.milvus.manifest import MilvusManifest
from app.index.opening import OpenCollection
from app.settings import InferenceEngine

Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]
Limit = Annotated[int, Field(ge=1)]

EXAMPLE_LABELS = ["traffic light", "street lamp", "fire hydrant", "parking meter", "stop sign"]

EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAGAAAABgBAMAAAAQtmoLAAAAD1BMVEXwvhR4tOYetDzmHh4oKCjPfRZ9AAAA70lEQVR4"
    "2u2XwQ2DMAxFf6IMABsgVugCHBibAyN0AsQGMACF3lAS+MWW4EBJDv6I6Ok7xo6EyaFbFgm4JeC2r17e8+d9zzMAAAaY"
    "TOMwAMuoAJY1CIHRixJgCeSKso6RPmIeskjPdzCBSBwymhEBDDVgZ8jB5oENUJ6uSkGVGrhK49AAU6sApjUIgdaLEmAK"
    "5IqytpE+opeqSM93cD8ac9+hohkRwPHOJ2eoweaBDVCdrhlBlTrYQuPQAXOvAOY1CIHeixJgDuSKsvaRPqKXikjPd7DH"
    "e7s5FXLAHmxtVwk2D2yAyht9aZN+wBPwv8AXpdgnZtg8a7QAAAAASUVORK5CYII="
)
"""What the examples ask about, base64-encoded: a traffic light, drawn on 96 by 96 pixels."""


# No model: a thousand of them are made for an answer, and a model takes ten times as long.
@dataclass(slots=True)
class PredictionOut:
    """One label and its probabilities."""

    label: Annotated[str, Field(description="As it was sent.", examples=["cat"])]
    probability: Annotated[
        Share,
        Field(
            description="The fused probability; over all labels they sum to 1.", examples=[0.9533]
        ),
    ]
    image_probability: Annotated[
        Share, Field(description="What the image alone says: plain CLIP.", examples=[0.98])
    ]
    text_probability: Annotated[
        Share | None,
        Field(
            description="What the captions say: the mean of their probabilities; null where no "
            "caption voted.",
            examples=[0.91],
        ),
    ]


class ModalityOut(BaseModel):
    """How sure one modality is, and how much it counted."""

    confidence: Annotated[
        Share,
        Field(
            description="1 - H(p) / ln(number of labels), H the entropy in nats: 0 undecided, "
            "1 certain.",
            examples=[0.81],
        ),
    ]
    weight: Annotated[
        Share,
        Field(description="Its share in the answer; both modalities' sum to 1.", examples=[0.6183]),
    ]

    @classmethod
    def of(cls, modality: Modality) -> Self:
        """From the engine's own."""
        return cls(confidence=modality.confidence, weight=modality.weight)


class ModalitiesOut(BaseModel):
    """Both modalities; their weights sum to 1."""

    image: Annotated[ModalityOut, Field(description="The image itself.")]
    text: Annotated[ModalityOut, Field(description="The captions retrieved for it.")]


class CaptionOut(BaseModel):
    """A caption that was found."""

    id: Annotated[
        int, Field(ge=0, description="Its row in the collection, from 0.", examples=[123])
    ]
    text: Annotated[
        str, Field(description="The caption.", examples=["a tabby cat asleep on a sofa"])
    ]
    similarity: Annotated[
        float,
        Field(
            ge=-1,
            le=1,
            description="Cosine with the image, or with the text that was searched for.",
            examples=[0.312],
        ),
    ]


def _is_absent(value: object) -> bool:
    return value is None


class VotingCaptionOut(CaptionOut):
    """A caption that voted, and what it said where `votes` were asked for."""

    votes: Annotated[
        dict[str, Share] | None,
        Field(
            description="What this caption alone says, a probability a label; the captions' "
            "probability is the mean of them. Only there if the request asked for `votes`.",
            examples=[{"cat": 0.98, "dog": 0.02}],
            exclude_if=_is_absent,
        ),
    ] = None


class ImageResultOut(BaseModel):
    """The answer for one image."""

    filename: Annotated[
        str,
        Field(
            description="The file's name as it was sent; `image` without one.", examples=["cat.jpg"]
        ),
    ]
    predictions: Annotated[
        list[PredictionOut], Field(description="One a label, best first; at most `top_k`.")
    ]
    modalities: Annotated[
        ModalitiesOut,
        Field(
            description="How image and captions counted in the answer.",
            examples=[
                {
                    "image": {"confidence": 0.81, "weight": 0.6183},
                    "text": {"confidence": 0.5, "weight": 0.3817},
                }
            ],
        ),
    ]
    captions: Annotated[
        list[VotingCaptionOut],
        Field(
            description="Those that voted, best first; empty where none were asked for or found."
        ),
    ]

    @classmethod
    def of(cls, result: ImageResult) -> Self:
        """From the engine's own."""
        return cls(
            filename=result.filename,
            predictions=[PredictionOut(*prediction) for prediction in result.predictions],
            modalities=ModalitiesOut(
                image=ModalityOut.of(result.image), text=ModalityOut.of(result.text)
            ),
            captions=[
                VotingCaptionOut(id=c.id, text=c.text, similarity=c.similarity, votes=c.votes)
                for c in result.captions
            ],
        )


class TimingsOut(BaseModel):
    """Milliseconds by stage, all images of the request together."""

    decode_ms: Annotated[
        Milliseconds, Field(description="Decoding and resizing, in milliseconds.", examples=[3.1])
    ]
    encode_ms: Annotated[
        Milliseconds,
        Field(description="The model on images and new labels, in milliseconds.", examples=[14.0]),
    ]
    retrieve_ms: Annotated[
        Milliseconds, Field(description="Search and re-ranking, in milliseconds.", examples=[0.4])
    ]
    fuse_ms: Annotated[
        Milliseconds, Field(description="Votes and weights, in milliseconds.", examples=[0.1])
    ]
    total_ms: Annotated[
        Milliseconds,
        Field(
            description="From the parsed request to the answer, waiting included, in milliseconds.",
            examples=[18.2],
        ),
    ]


ModelName = Annotated[str, Field(description="The model's name.", examples=["mini"])]
IndexName = Annotated[
    str, Field(description="The caption collection that was searched.", examples=["default"])
]


class ClassificationOut(BaseModel):
    """The answer of `POST /v1/classify`."""

    model: ModelName
    index: IndexName
    results: Annotated[
        list[ImageResultOut], Field(description="One an image, in the order of the files.")
    ]
    timings: Annotated[TimingsOut, Field(description="Where the time went.")]
    warnings: Annotated[
        list[str],
        Field(
            description="What was done otherwise than one may expect; for instance a label longer "
            "than the model's context, whose end was cut off. Empty where there is nothing.",
            examples=[[]],
        ),
    ]
    degraded: Annotated[
        bool,
        Field(
            description="Whether the caption collection did not answer, so that no caption voted "
            "and this is plain CLIP; only where the service is set so (`XMORE_INDEX_AWAY=plain`), "
            "else such a request gets 503.",
            examples=[False],
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
            degraded=answer.degraded,
        )


class CaptionsFoundOut(BaseModel):
    """The answer of `POST /v1/captions/search`."""

    model: ModelName
    index: IndexName
    captions: Annotated[
        list[CaptionOut], Field(description="At most `k`, best first, without repeats.")
    ]

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
        list[str],
        Field(
            description="The labels to choose from: one to `max_labels` (1000), all different, "
            "each of 1 to `max_label_length` (500) characters.",
            examples=[EXAMPLE_LABELS],
            json_schema_extra={"minItems": 1, "uniqueItems": True},
        ),
    ]
    hypothesis_template: Annotated[
        str | None,
        Field(
            description="A sentence with one `{}` for the label, of at most `max_label_length` "
            f"(500) characters. Default: `{DEFAULT_TEMPLATE}`",
            examples=[DEFAULT_TEMPLATE],
        ),
    ] = None


class ZeroShotRequest(BaseModel):
    """Hugging Face's `zero-shot-image-classification` request."""

    inputs: Annotated[
        str,
        Field(
            description="The image file, base64-encoded, with or without a `data:` prefix; at most "
            "`max_image_bytes` bytes (20 MiB) and `max_pixels` pixels (50 million).",
            examples=[EXAMPLE_PNG],
            json_schema_extra={"contentEncoding": "base64"},
        ),
    ]
    parameters: Annotated[ZeroShotParameters, Field(description="What to choose from, and how.")]


class ZeroShotLabel(BaseModel):
    """Hugging Face's answer: one label with its score."""

    label: Annotated[str, Field(description="As it was sent.", examples=["cat"])]
    score: Annotated[
        Share,
        Field(description="Its probability; over all labels they sum to 1.", examples=[0.97]),
    ]


class ModelInfo(BaseModel):
    """The model that serves."""

    name: Annotated[str, Field(description="As answers give it.", examples=["mini"])]
    fingerprint: Annotated[
        str, Field(description="SHA-256 over its float32 weights, in hexadecimal digits.")
    ]
    embed_dim: Annotated[
        Limit, Field(description="Numbers in one of its embeddings.", examples=[384])
    ]
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"],
        Field(description="Number format of its weights.", examples=["fp32"]),
    ]
    device: Annotated[Literal["cpu", "cuda"], Field(description="Where it runs.", examples=["cpu"])]
    engine: Annotated[
        InferenceEngine, Field(description="What runs the model.", examples=["torch"])
    ]
    threads: Annotated[
        Limit, Field(description="Threads on the CPU, of all passes together.", examples=[4])
    ]
    batch_size: Annotated[
        Limit, Field(description="Most images of concurrent requests in one pass.", examples=[32])
    ]
    parallel_batches: Annotated[
        Limit,
        Field(
            description="Most passes at once, while several requests are under way.", examples=[4]
        ),
    ]
    decode_threads: Annotated[Limit, Field(description="Images decoded at once.", examples=[4])]


class IndexInfo(BaseModel):
    """The caption collection that serves."""

    name: Annotated[
        str, Field(description="What the field `index` asks for.", examples=["default"])
    ]
    kind: Annotated[
        Kind,
        Field(description="Whether it is searched by its captions' embeddings or its images'."),
    ]
    captions: Annotated[int, Field(ge=0, description="How many it holds.", examples=[36000])]
    images: Annotated[
        int | None, Field(ge=0, description="How many a collection of pairs holds; else null.")
    ]
    faiss: Annotated[
        str | None,
        Field(description="FAISS factory string; null where Milvus searches.", examples=["SQfp16"]),
    ]
    fingerprint: Annotated[
        str,
        Field(description="SHA-256 over the files that it was built as, in hexadecimal digits."),
    ]
    milvus: Annotated[
        str | None,
        Field(description="Milvus's index type; null where FAISS searches.", examples=["HNSW"]),
    ]
    available: Annotated[
        bool, Field(description="Whether it answers now; false while its Milvus does not.")
    ]

    @classmethod
    def of(cls, name: str, collection: OpenCollection) -> Self:
        """From a collection and the name that it is served by."""
        manifest = collection.manifest
        return cls(
            name=name,
            kind=manifest.kind,
            captions=manifest.captions,
            images=manifest.images,
            faiss=manifest.faiss.factory if isinstance(manifest, Manifest) else None,
            milvus=manifest.index.type if isinstance(manifest, MilvusManifest) else None,
            available=collection.away is None,
            fingerprint=manifest.fingerprint,
        )


class ReloadedOut(BaseModel):
    """The answer of `POST /v1/index/reload`: what serves from now on."""

    indexes: Annotated[list[IndexInfo], Field(description="All collections, the default first.")]


class LimitsInfo(BaseModel):
    """What one request may hold."""

    max_image_bytes: Annotated[
        Limit, Field(description="Largest image file, in bytes.", examples=[20 * 2**20])
    ]
    max_pixels: Annotated[
        Limit, Field(description="Largest image, width times height.", examples=[50_000_000])
    ]
    max_images: Annotated[
        Limit, Field(description="Most image files in one request.", examples=[16])
    ]
    max_labels: Annotated[Limit, Field(description="Most labels in one request.", examples=[1000])]
    max_label_length: Annotated[
        Limit, Field(description="Longest label or template, in characters.", examples=[500])
    ]
    max_templates: Annotated[
        Limit, Field(description="Most templates in one request.", examples=[100])
    ]
    max_captions: Annotated[
        Limit, Field(description="Most captions that may vote.", examples=[MAX_CAPTIONS])
    ]


class InfoOut(BaseModel):
    """The answer of `GET /v1/info`."""

    version: Annotated[str, Field(description="Of the service.", examples=["0.1.0"])]
    model: Annotated[ModelInfo, Field(description="The model.")]
    index: Annotated[IndexInfo, Field(description="The default collection.")]
    indexes: Annotated[list[IndexInfo], Field(description="All collections, the default first.")]
    limits: Annotated[LimitsInfo, Field(description="Past them 413 or 422.")]


class StatusOut(BaseModel):
    """The answer of the probes."""

    status: Annotated[
        Literal["ok", "ready", "degraded"],
        Field(
            description="`ok` of `/healthz`, `ready` of `/readyz`; `degraded` of `/readyz` while "
            "the default collection does not answer and requests get plain CLIP.",
            examples=["ok"],
        ),
    ]
