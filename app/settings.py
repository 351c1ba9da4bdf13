"""Every knob of the service, its range and its meaning. Read from `XMORE_*` and `.env`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.index.place import MilvusOptions, Place, parse_place

ROOT = Path(__file__).resolve().parent.parent

LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"


def _path_as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _split(value: object) -> object:
    """A comma-separated variable as a list."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


# NoDecode: pydantic-settings would want JSON in the variable.
_CommaSeparated = (NoDecode, BeforeValidator(_split))


class LogLevel(StrEnum):
    """The least important lines that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Precision(StrEnum):
    """Number format of the model's weights and activations."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class InferenceEngine(StrEnum):
    """What runs the model's towers."""

    TORCH = "torch"
    ONNX = "onnx"


class IndexAway(StrEnum):
    """What a request gets while the engine of its collection does not answer."""

    REFUSE = "refuse"
    PLAIN = "plain"


class Settings(BaseSettings):
    """Settings of the service; each is the environment variable `XMORE_` and its name."""

    model_config = SettingsConfigDict(
        env_prefix="XMORE_",
        env_file=".env",
        # Compose files pass on variables that nobody set as empty ones.
        env_ignore_empty=True,
        extra="ignore",
    )

    model: Annotated[
        str,
        Field(
            description="What open_clip loads: `local-dir:DIR`, `hf-hub:ORG/NAME`, or an "
            "architecture name together with XMORE_PRETRAINED."
        ),
    ] = f"{LOCAL_DIR}{ROOT / 'models' / 'mini'}"
    pretrained: Annotated[
        str | None,
        Field(description="open_clip's tag or a weights file, for an architecture by name."),
    ] = None
    index: Annotated[
        str,
        BeforeValidator(_path_as_text),
        Field(
            description="Directory of the caption collection (`xmore index build`), a collection "
            "in Milvus (`milvus://HOST:PORT/NAME`, `milvuss://` with TLS, or "
            "`milvus:PATH/FILE.db/NAME` for the embedded engine), or several by name: "
            "`name=DIR,other=DIR2`, the first of which is the default."
        ),
    ] = str(ROOT / "index_data" / "default")
    index_away: Annotated[
        IndexAway,
        Field(
            description="What a request gets while the Milvus of its collection does not answer: "
            "`refuse` answers 503, `plain` answers with plain CLIP, marked `degraded`."
        ),
    ] = IndexAway.REFUSE
    milvus_token: Annotated[
        SecretStr | None,
        Field(description="What Milvus asks for: `user:password`, or an API key."),
    ] = None
    milvus_database: Annotated[
        str, Field(description="Milvus's database of the collections; empty: its default one.")
    ] = ""
    milvus_ca: Annotated[
        Path | None,
        Field(
            description="PEM file of the authority that signed the certificate of a `milvuss://` "
            "server; None: the usual authorities."
        ),
    ] = None
    milvus_timeout_s: Annotated[
        float,
        Field(gt=0, le=600, description="Seconds within which Milvus has to answer one search."),
    ] = 2.0
    milvus_start_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="Seconds that Milvus gets to be there, and to hold the collection ready, "
            "when it is opened.",
        ),
    ] = 30.0
    verify_index: Annotated[
        bool,
        Field(
            description="Compare checksums when a collection is opened, which reads it once; "
            "otherwise only the sizes of its files."
        ),
    ] = True
    precision: Annotated[
        Precision,
        Field(
            description="`auto` takes fp16 on a GPU, bf16 where the CPU has AMX or AVX512-BF16, "
            "else fp32."
        ),
    ] = Precision.AUTO
    device: Annotated[
        Device, Field(description="`auto` takes a GPU that PyTorch can use, else the CPU.")
    ] = Device.AUTO
    engine: Annotated[
        InferenceEngine,
        Field(
            description="What runs the model: `onnx` is ONNX Runtime, in fp32 on the CPU, which "
            "needs the extra `onnx` and exports the model at the first start."
        ),
    ] = InferenceEngine.TORCH
    engine_cache: Annotated[
        Path, Field(description="Directory where `onnx` keeps exported models.")
    ] = Path("~/.cache/xmore/onnx")
    threads: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="Threads of the model; 0 takes every core that the process may use, by its "
            "affinity and its cgroup's quota.",
        ),
    ] = 0
    decode_threads: Annotated[
        int,
        Field(ge=0, le=1024, description="Images decoded at once; 0 takes as many as `threads`."),
    ] = 0
    batch_size: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="Most images that one pass takes, of as many requests as wait; fewer "
            "where an image takes long and few wait.",
        ),
    ] = 8
    parallel_batches: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="Most passes at once while several requests are under way, each on its "
            "part of `threads`; 1: one after another on all of them; 0 takes up to 8, or 1 where "
            "a GPU or ONNX Runtime computes.",
        ),
    ] = 0
    batch_wait_ms: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Milliseconds that an idle server waits for more requests before it "
            "begins; 0 never waits: what comes during one pass shares the next.",
        ),
    ] = 0
    reduced_jpeg: Annotated[
        bool,
        Field(
            description="Read large JPEG photos at a half, a quarter or an eighth of their size, "
            "never below twice what the model takes."
        ),
    ] = True
    label_cache_size: Annotated[
        int, Field(ge=0, le=10_000_000, description="Prompts whose embeddings are kept in memory.")
    ] = 20_000
    label_cache_file: Annotated[
        Path | None,
        Field(
            description="A file (SQLite) that keeps embeddings of prompts from one start to the "
            "next; made if missing. None: in memory only."
        ),
    ] = None
    warm_labels: Annotated[
        Path | None,
        Field(
            description="A text file of labels, one a line, embedded before the server is ready."
        ),
    ] = None
    host: Annotated[str, Field(description="Address that `xmore serve` listens on.")] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65_535, description="Port that `xmore serve` listens on; 0: any free.")
    ] = 8000
    root_path: Annotated[
        str,
        Field(
            pattern=r"^(/[A-Za-z0-9._~-]+)*$",
            description="Path below which a proxy shows the service, such as `/xmore`, and which "
            "it takes off before it asks; empty: at the root.",
        ),
    ] = ""
    max_image_bytes: Annotated[int, Field(ge=1, description="Largest image file, in bytes.")] = (
        20 * 2**20
    )
    max_pixels: Annotated[int, Field(ge=1, description="Largest image, width times height.")] = (
        50_000_000
    )
    max_images: Annotated[
        int, Field(ge=1, le=1024, description="Most image files in one request.")
    ] = 16
    max_labels: Annotated[
        int, Field(ge=1, le=100_000, description="Most labels in one request.")
    ] = 1000
    max_label_length: Annotated[
        int, Field(ge=1, le=100_000, description="Longest label or template, in characters.")
    ] = 500
    max_templates: Annotated[
        int, Field(ge=1, le=1000, description="Most templates in one request.")
    ] = 100
    max_queue: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Most requests under way at once, from their first byte to their answer; "
            "past it 429.",
        ),
    ] = 32
    max_queue_bytes: Annotated[
        int,
        Field(ge=1, description="Most body bytes of all requests under way together; past it 429."),
    ] = 512 * 2**20
    request_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="Seconds that a received request may wait and compute."),
    ] = 30.0
    body_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="Seconds that a client may take to send a request."),
    ] = 30.0
    stuck_after_s: Annotated[
        float,
        Field(
            gt=0,
            le=86_400,
            description="Seconds on one computation after which the inference worker counts as "
            "stuck and `/healthz` fails.",
        ),
    ] = 120.0
    drain_timeout_s: Annotated[
        float,
        Field(ge=0, le=3600, description="Seconds that accepted requests get to finish at a stop."),
    ] = 20.0
    api_keys: Annotated[
        list[Annotated[SecretStr, Field(min_length=16)]],
        *_CommaSeparated,
        Field(
            description="Keys that open `/v1`, comma-separated, each of 16 characters or more; "
            "none: open to all."
        ),
    ] = []
    metrics_need_key: Annotated[
        bool, Field(description="Whether `/metrics` asks for a key too.")
    ] = False
    cors_origins: Annotated[
        list[str],
        *_CommaSeparated,
        Field(
            description="Web origins whose pages may ask, comma-separated, or `*`; none: CORS off."
        ),
    ] = []
    log_level: Annotated[
        LogLevel,
        Field(
            description="Least important lines that are logged; `debug` adds the messages of "
            "errors, which may quote what was sent."
        ),
    ] = LogLevel.INFO

    @model_validator(mode="after")
    def _keys_guard_metrics(self) -> Self:
        """A guard without keys would lock everybody out, or nobody."""
        if self.metrics_need_key and not self.api_keys:
            raise ValueError("XMORE_METRICS_NEED_KEY is set: set XMORE_API_KEYS too")
        return self

    @model_validator(mode="after")
    def _onnx_computes_in_fp32_on_the_cpu(self) -> Self:
        if self.engine is not InferenceEngine.ONNX:
            return self
        if self.precision not in (Precision.AUTO, Precision.FP32):
            raise ValueError(
                "XMORE_ENGINE=onnx computes in fp32: set XMORE_PRECISION to fp32 or auto, or "
                "XMORE_ENGINE to torch"
            )
        if self.device is Device.CUDA:
            raise ValueError(
                "XMORE_ENGINE=onnx computes on the CPU: set XMORE_DEVICE to cpu or auto, or "
                "XMORE_ENGINE to torch"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_named(self) -> Self:
        """open_clip would build an architecture without weights from random numbers."""
        if not self.model.startswith((LOCAL_DIR, HUB)) and not self.pretrained:
            raise ValueError(
                f"XMORE_MODEL={self.model} names an architecture: set XMORE_PRETRAINED to its "
                "weights (for instance `openai`), or use local-dir:DIR or hf-hub:ORG/NAME"
            )
        return self

    @field_validator("index")
    @classmethod
    def _collections_are_named(cls, index: str) -> str:
        if not index.strip():
            raise ValueError("names no directory")
        entries = index.split(",") if "=" in index else [index]
        names = [entry.partition("=")[0].strip() for entry in entries]
        places = [entry.partition("=")[2].strip() if "=" in index else entry for entry in entries]
        if "=" in index and not all(names + places):
            raise ValueError("either one directory, or name=DIR,other=DIR2")
        if len(set(names)) < len(names):
            raise ValueError("two collections have the same name")
        for place in places:
            parse_place(place)
        return index

    @property
    def collections(self) -> list[tuple[str | None, Place]]:
        """Name and place of each collection, the default first; one alone has no name here."""
        if "=" not in self.index:
            return [(None, parse_place(self.index.strip()))]
        entries = (entry.partition("=") for entry in self.index.split(","))
        return [(name.strip(), parse_place(place.strip())) for name, _, place in entries]

    @property
    def milvus(self) -> MilvusOptions:
        """How Milvus is reached."""
        return MilvusOptions(
            token=self.milvus_token.get_secret_value() if self.milvus_token else "",
            database=self.milvus_database,
            ca=self.milvus_ca,
            timeout_s=self.milvus_timeout_s,
            start_timeout_s=self.milvus_start_timeout_s,
        )

    @property
    def onnx_cache(self) -> Path | None:
        """Where exported models are kept, or None where torch runs the model."""
        return self.engine_cache if self.engine is InferenceEngine.ONNX else None

    @property
    def max_body_bytes(self) -> int:
        """Largest request body: all images at their largest, and room for the form around them."""
        return self.max_images * self.max_image_bytes + 4 * 2**20
