"""`manifest.json`: what a collection is, which model made it, and a checksum for each file."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TEXT_FILE = "captions.txt"
OFFSETS_FILE = "offsets.npy"
FAISS_FILE = "captions.faiss"
FILES = (FAISS_FILE, OFFSETS_FILE, TEXT_FILE)
"""Every file of a collection beside its manifest."""


class CollectionError(Exception):
    """A collection cannot be opened or built; the message says what is wrong and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelStamp(_Strict):
    """The model whose embeddings the collection holds."""

    name: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    embed_dim: Annotated[int, Field(gt=0)]


class FaissStamp(_Strict):
    """The FAISS index: its factory string and the parameters that a query passes."""

    factory: str
    nprobe: Annotated[int, Field(gt=0)] | None = None


class FileStamp(_Strict):
    """Size and checksum of one file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Strict):
    """The whole of `manifest.json`."""

    format_version: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    kind: Literal["captions", "pairs"]
    captions: Annotated[int, Field(ge=0)]
    model: ModelStamp
    faiss: FaissStamp
    files: dict[Literal["captions.faiss", "offsets.npy", "captions.txt"], FileStamp]

    @field_validator("files")
    @classmethod
    def _all_files(cls, files: dict[str, FileStamp]) -> dict[str, FileStamp]:
        missing = set(FILES) - set(files)
        if missing:
            raise ValueError(f"no checksum for {', '.join(sorted(missing))}")
        return files

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
            f"{directory} is not a caption collection: it has no {MANIFEST}. "
            "Make one with `xmore index build SOURCE --out DIR`."
        ) from None
    except UnicodeDecodeError as error:
        raise CollectionError(f"{path} is not UTF-8 text ({error})") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CollectionError(f"{path}: {where}: {first['msg']}") from error


def stamp_file(path: Path) -> FileStamp:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileStamp(bytes=path.stat().st_size, sha256=digest)


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file with its checksum.

    Raises:
        CollectionError: a file is missing or differs from what was built.
    """
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise CollectionError(f"{directory}: {name} is missing. Build the collection again.")
        if stamp_file(path) != expected:
            raise CollectionError(
                f"{path} is damaged: its checksum is not the one in {MANIFEST}. "
                "Copy it anew or build the collection again."
            )
