"""The service's answers as typed values; field names and shapes are those of the API.

`str(...)` of a result is a plain table, a notebook shows bars; `dataclasses.asdict(...)` gives the
JSON of the API back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.client import display


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label and its probabilities, in [0, 1].

    Attributes:
        label: as it was asked.
        probability: the fused answer.
        image_probability: what the image alone says (plain CLIP).
        text_probability: what the captions say; None where no caption voted.
    """

    label: str
    probability: float
    image_probability: float
    text_probability: float | None


@dataclass(frozen=True, slots=True)
class Modality:
    """How sure one modality is, and how much it counted; both in [0, 1]."""

    confidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class Modalities:
    """Both modalities; their weights sum to 1."""

    image: Modality
    text: Modality


@dataclass(frozen=True, slots=True)
class Caption:
    """A retrieved caption.

    Attributes:
        id: its row in the collection.
        text: the caption.
        similarity: its cosine with what was searched.
    """

    id: int
    text: str
    similarity: float


@dataclass(frozen=True, slots=True)
class VotingCaption(Caption):
    """A caption that voted, with what it alone says: a probability a label."""

    votes: dict[str, float]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The answer for one image.

    Attributes:
        filename: the image's name, as it was sent.
        predictions: best first, cut at `top_k`.
        modalities: weight and confidence of image and captions.
        captions: those that voted, best first; `VotingCaption`s where `votes` were asked for.
    """

    filename: str
    predictions: tuple[Prediction, ...]
    modalities: Modalities
    captions: tuple[VotingCaption | Caption, ...]

    @property
    def best(self) -> Prediction:
        """The most probable label."""
        return self.predictions[0]

    def __str__(self) -> str:
        """A plain table with bars, the weights and the captions."""
        return display.image_as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html([self])


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds that the service spent, all images of the request together."""

    decode_ms: float
    encode_ms: float
    retrieve_ms: float
    fuse_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer to one request; iterate over it for one `ImageResult` an image, in their order.

    Attributes:
        model: the model that answered.
        index: the caption collection that was asked.
        results: one an image.
        timings: of all images together.
        warnings: what was done otherwise than one may expect.
        degraded: whether the caption collection did not answer, so that this is plain CLIP.
    """

    model: str
    index: str
    results: tuple[ImageResult, ...]
    timings: Timings
    warnings: tuple[str, ...] = ()
    degraded: bool = False

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[ImageResult]:
        return iter(self.results)

    def __getitem__(self, position: int) -> ImageResult:
        return self.results[position]

    def __str__(self) -> str:
        """One table an image, and the warnings."""
        return display.classification_as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self.results, self.warnings)


@dataclass(frozen=True, slots=True)
class CaptionsFound:
    """The captions nearest to an image or a text, best first."""

    model: str
    index: str
    captions: tuple[Caption, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def __iter__(self) -> Iterator[Caption]:
        return iter(self.captions)

    def __getitem__(self, position: int) -> Caption:
        return self.captions[position]

    def __str__(self) -> str:
        """A caption a line, with its similarity."""
        return "\n".join(display.caption_lines(self.captions))

    def _repr_html_(self) -> str:
        return display.captions_as_html(self.captions)


@dataclass(frozen=True, slots=True)
class Model:
    """The model that serves.

    Attributes:
        name: short name.
        fingerprint: SHA-256 of its weights.
        embed_dim: d.
        precision: number format of its weights.
        device: where it runs, `cpu` or `cuda`.
        engine: what runs it, `torch` or `onnx`.
        threads: threads on the CPU, of all passes together.
        batch_size: most images of concurrent requests in one pass.
        parallel_batches: most passes at once, while several requests are under way.
        decode_threads: images decoded at once.
    """

    name: str
    fingerprint: str
    embed_dim: int
    precision: str
    device: str
    engine: str
    threads: int
    batch_size: int
    parallel_batches: int
    decode_threads: int


@dataclass(frozen=True, slots=True)
class Index:
    """A caption collection that serves.

    Attributes:
        name: what `index` asks for.
        kind: `captions` or `pairs`.
        captions: how many.
        images: how many it has of pairs; else None.
        faiss: FAISS's factory string; None where Milvus searches.
        fingerprint: SHA-256 over the files that it was built as.
        milvus: Milvus's index type; None where FAISS searches.
        available: whether it answers now.
    """

    name: str
    kind: str
    captions: int
    images: int | None
    faiss: str | None
    fingerprint: str
    milvus: str | None = None
    available: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    max_image_bytes: int
    max_pixels: int
    max_images: int
    max_labels: int
    max_label_length: int
    max_templates: int
    max_captions: int


@dataclass(frozen=True, slots=True)
class Info:
    """What serves, and its limits; `indexes` are all collections, the default `index` first."""

    version: str
    model: Model
    index: Index
    indexes: tuple[Index, ...]
    limits: Limits
