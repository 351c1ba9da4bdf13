"""`manifest.json`: what a collection is, which model made it, and a checksum for each file."""

import hashlib
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.index.place import Place

FORMAT_VERSION: Final = 2
MANIFEST = "manifest.json"
REPORT = "build_report.json"

FAISS_FILE: Final = "search.faiss"
LISTS_FILE: Final = "search.ivfdata"
EXACT_FILE: Final = "search.npy"
TEXT_FILE: Final = "captions.txt"
OFFSETS_FILE: Final = "offsets.npy"
CAPTION_VECTORS_FILE: Final = "captions.npy"
FIRST_CAPTION_FILE: Final = "first_caption.npy"

FileName = Literal[
    "search.faiss",
    "search.ivfdata",
    "search.npy",
    "captions.txt",
    "offsets.npy",
    "captions.npy",
    "first_caption.npy",
]


class Kind(StrEnum):
    """What a collection is searched by.

    `captions`: their own embeddings, image-to-text. `pairs`: the embeddings of the images that the
    captions belong to, image-to-image, as in the paper.
    """

    CAPTIONS = "captions"
    PAIRS = "pairs"


_NEEDED: dict[Kind, frozenset[str]] = {
    Kind.CAPTIONS: frozenset({FAISS_FILE, TEXT_FILE, OFFSETS_FILE}),
    Kind.PAIRS: frozenset(
        {FAISS_FILE, TEXT_FILE, OFFSETS_FILE, CAPTION_VECTORS_FILE, FIRST_CAPTION_FILE}
    ),
}


class CollectionError(Exception):
    """A collection cannot be opened or built.

    `reason` says what is wrong and what to do, and holds no path or address; the whole message
    begins with that where there is one, and ends in the detail, which may hold one too.
    """

    def __init__(
        self, reason: str, place: Place | None = None, detail: Exception | None = None
    ) -> None:
        where = "" if place is None else f"{place}: "
        why = "" if detail is None else f" ({detail})"
        super().__init__(f"{where}{reason}{why}")
        self.reason = reason


class CollectionAwayError(Exception):
    """An opened collection does not answer now; the message names it and holds no address."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The caption collection '{name}' does not answer. Try again soon.")
        self.name = name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelStamp(_Strict):
    """The model whose embeddings the collection holds."""

    name: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    embed_dim: Annotated[int, Field(gt=0)]


class FaissStamp(_Strict):
    """The FAISS index: its factory string and the parameters that a query passes.

    Attributes:
        factory: FAISS's own description of the type.
        nprobe: how many inverted lists a query visits; None without lists.
        k_factor: an index that compresses is asked for so many times more, which are then
            re-ranked by exact vectors; None where its own order is good.
    """

    factory: str
    nprobe: Annotated[int, Field(gt=0)] | None = None
    k_factor: Annotated[int, Field(gt=0)] | None = None


class FileStamp(_Strict):
    """Size and checksum of one file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Strict):
    """The whole of `manifest.json`."""

    format_version: Literal[2]
    name: Annotated[str, Field(min_length=1)]
    kind: Kind
    captions: Annotated[int, Field(gt=0)]
    images: Annotated[int, Field(gt=0)] | None = None
    model: ModelStamp
    faiss: FaissStamp
    files: dict[FileName, FileStamp]

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        needed = _NEEDED[self.kind] | ({EXACT_FILE} if self.faiss.k_factor else set())
        missing = needed - set(self.files)
        if missing:
            raise ValueError(f"no checksum for {', '.join(sorted(missing))}")
        if (self.images is not None) != (self.kind is Kind.PAIRS):
            raise ValueError("`images` is the number of images of a collection of kind `pairs`")
        return self

    @property
    def entries(self) -> int:
        """How many vectors are searched: captions, or images for `pairs`."""
        return self.captions if self.images is None else self.images

    @property
    def fingerprint(self) -> str:
        """Identifies the collection: a digest over the checksums of its files."""
        digest = hashlib.sha256()
        for name, stamp in sorted(self.files.items()):
            digest.update(f"{name}:{stamp.sha256}\n".encode())
        return digest.hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read and validate a collection's manifest.

    Raises:
        CollectionError: there is none, or it is not one that this version reads.
    """
    path = directory / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise CollectionError(
            f"not a caption collection: it has no {MANIFEST}. "
            "Make one with `xmore index build SOURCE --out DIR`.",
            directory,
        ) from None
    except UnicodeDecodeError as error:
        raise CollectionError(f"{MANIFEST} is not UTF-8 text ({error})", directory) from error
    except OSError as error:
        raise CollectionError(f"{MANIFEST} cannot be read ({error.strerror})", directory) from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CollectionError(
            f"{MANIFEST}: {where}: {first['msg']}. Build the collection again with this version.",
            directory,
        ) from error


def check_model(name: str, made_by: ModelStamp, model: ModelStamp) -> None:
    """Refuse a model whose embeddings are not those of a collection.

    Args:
        name: of the collection.
        made_by: the model in its manifest.
        model: the one that is loaded.

    Raises:
        CollectionError: the weights differ; the message says how to build a collection anew.
    """
    if made_by.fingerprint != model.fingerprint:
        raise CollectionError(
            f"The caption collection '{name}' was built with the model '{made_by.name}' "
            f"({made_by.fingerprint[:12]}), but the model loaded is '{model.name}' "
            f"({model.fingerprint[:12]}). Load that model (XMORE_MODEL), or build a collection "
            "for this one: `xmore index build CAPTIONS.txt --out DIR`, then set XMORE_INDEX=DIR."
        )


def looks_like_collection(directory: Path) -> bool:
    """Whether a directory is a collection of this or another version, perhaps damaged."""
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"format_version", "faiss", "files"} <= manifest.keys()


def stamp_file(path: Path) -> FileStamp:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileStamp(bytes=path.stat().st_size, sha256=digest)


def check_files(directory: Path, manifest: Manifest, checksums: bool = True) -> None:
    """Compare every file with its size and, unless told otherwise, its checksum.

    Raises:
        CollectionError: a file is missing or differs from what was built.
    """
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise CollectionError(f"{name} is missing. Build the collection again.", directory)
        if path.stat().st_size != expected.bytes or (checksums and stamp_file(path) != expected):
            raise CollectionError(
                f"{name} is damaged: its size or checksum is not the one in {MANIFEST}. "
                "Copy it anew or build the collection again.",
                directory,
            )


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
