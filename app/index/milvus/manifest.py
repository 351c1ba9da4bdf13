"""What a collection in Milvus is: kept in its properties, checked when it is opened.

While rows are loaded the properties hold the manifest as `xmore.loading`, and how far loading
came; once all are there, as `xmore.manifest`. So a collection that is half there says so itself.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.index.manifest import CollectionError, Kind, ModelStamp
from app.index.place import MilvusAddress

LOADING = "xmore.loading"
PROGRESS = "xmore.loaded_rows"
MANIFEST = "xmore.manifest"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MilvusIndexType(StrEnum):
    """Milvus's index types that xmore knows how to ask; `AUTOINDEX` is the server's choice."""

    FLAT = "FLAT"
    HNSW = "HNSW"
    IVF_SQ8 = "IVF_SQ8"
    AUTOINDEX = "AUTOINDEX"


class MilvusIndexStamp(_Strict):
    """The index over the vectors.

    Attributes:
        type: its kind.
        build: parameters that it is built with.
    """

    type: MilvusIndexType
    build: dict[str, int] = {}


class MilvusManifest(_Strict):
    """The manifest of a collection in Milvus.

    Attributes:
        format_version: of the rows and of this manifest.
        name: what answers call it.
        kind: what it is searched by.
        captions: how many.
        images: how many it has of pairs; else None.
        model: whose embeddings it holds.
        index: how it is searched.
        fingerprint: that of the collection on disk that it was loaded from.
    """

    format_version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1)]
    kind: Kind
    captions: Annotated[int, Field(gt=0)]
    images: Annotated[int, Field(gt=0)] | None = None
    model: ModelStamp
    index: MilvusIndexStamp
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def vector(self) -> str:
        """The name of the field that is searched, which no other content has.

        So a search finds nothing, rather than the wrong thing, once another collection has taken
        the place of the one that was opened.
        """
        return f"vector_{self.fingerprint[:16]}"

    @property
    def entries(self) -> int:
        """How many rows are searched: captions, or images for `pairs`."""
        return self.captions if self.images is None else self.images


def read_manifest(properties: Mapping[str, str], address: MilvusAddress) -> MilvusManifest:
    """The manifest of a collection that is wholly there.

    Raises:
        CollectionError: it was not loaded by xmore, not wholly, or by another version.
    """
    if MANIFEST in properties:
        return parse_manifest(properties[MANIFEST], address)
    if LOADING in properties:
        planned = parse_manifest(properties[LOADING], address)
        raise CollectionError(
            f"half loaded: {rows_loaded(properties)} of {planned.entries} rows. Give the same "
            "`xmore index copy` or `xmore index build … --to` again, which goes on where it "
            "stopped.",
            address,
        )
    raise CollectionError(
        "not a caption collection: xmore did not load it. Load one under another name with "
        "`xmore index copy DIR URL`.",
        address,
    )


def rows_loaded(properties: Mapping[str, str]) -> int:
    """How many rows are certainly there, the first ones."""
    text = properties.get(PROGRESS, "0")
    return int(text) if text.isdecimal() else 0


def parse_manifest(text: str, address: MilvusAddress) -> MilvusManifest:
    """A manifest from its JSON.

    Raises:
        CollectionError: it is not one that this version reads.
    """
    try:
        return MilvusManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CollectionError(
            f"its manifest: {where}: {first['msg']}. Load it again with this version: "
            "`xmore index copy DIR URL --restart`.",
            address,
        ) from error
