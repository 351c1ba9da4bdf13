"""Load a collection from its directory into Milvus; go on where a killed loading stopped.

Rows are written in order, in batches, each row under its own id. How many are certainly there is
kept with the collection every few batches; what a kill left half written is written once more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any

from app.index.collection import Collection
from app.index.manifest import CollectionError
from app.index.milvus.client import REFUSED, EngineError, MilvusClient, pauses_s
from app.index.milvus.manifest import (
    LOADING,
    MANIFEST,
    PROGRESS,
    MilvusIndexStamp,
    MilvusIndexType,
    MilvusManifest,
    parse_manifest,
    read_manifest,
    rows_loaded,
)
from app.index.milvus.rows import TEXT_FIELDS, rows_of
from app.index.place import MilvusAddress, MilvusOptions

BATCH_ROWS = 2000
_NOTED_BATCHES = 10
_EXACT_BELOW = 30_000
_TRIES = 4


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a collection is loaded.

    Attributes:
        index_type: None chooses by engine and size.
        restart: throw away what is there under the name.
        batch_rows: rows of one write.
    """

    index_type: MilvusIndexType | None = None
    restart: bool = False
    batch_rows: int = BATCH_ROWS


def choose_index(
    entries: int, embedded: bool, wanted: MilvusIndexType | None = None
) -> MilvusIndexStamp:
    """The index for an engine and a size: exact on the embedded engine and below 30,000, else HNSW.

    The embedded engine spends most of a search on other things than comparing vectors, so an
    approximate index would save it little. It takes no parameters but its own.
    """
    exact = embedded or entries < _EXACT_BELOW
    chosen = wanted or (MilvusIndexType.FLAT if exact else MilvusIndexType.HNSW)
    if embedded:
        return MilvusIndexStamp(type=chosen)
    match chosen:
        case MilvusIndexType.HNSW:
            return MilvusIndexStamp(type=chosen, build={"M": 16, "efConstruction": 200})
        case MilvusIndexType.IVF_SQ8:
            lists = min(65_536, max(1, round(4 * entries**0.5)))
            return MilvusIndexStamp(type=chosen, build={"nlist": lists})
        case _:
            return MilvusIndexStamp(type=chosen)


def load_collection(
    source: Collection,
    address: MilvusAddress,
    reached: MilvusOptions,
    options: LoadOptions,
    progress: Callable[[int], object] = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> MilvusManifest:
    """Load a collection into Milvus.

    Args:
        source: opened from its directory.
        address: where to; other collections there are left alone.
        reached: how Milvus is reached.
        options: index type and the like.
        progress: called with how many rows are there.
        say: called with what is being done, in words.

    Raises:
        CollectionError: no engine answers, another collection is there, or a row does not fit.
    """
    client = MilvusClient.connect(address, reached)
    try:
        return _load(source, client, options, progress, say)
    except EngineError as error:
        raise CollectionError(
            f"{REFUSED} Give the same command again to go on.", address, error
        ) from error
    finally:
        client.close()


def _load(
    source: Collection,
    client: MilvusClient,
    options: LoadOptions,
    progress: Callable[[int], object],
    say: Callable[[str], object],
) -> MilvusManifest:
    manifest = source.manifest
    wanted = MilvusManifest(
        name=manifest.name,
        kind=manifest.kind,
        captions=manifest.captions,
        images=manifest.images,
        model=manifest.model,
        index=choose_index(manifest.entries, client.address.is_embedded, options.index_type),
        fingerprint=manifest.fingerprint,
    )
    done = _begin(client, wanted, options.restart, say)
    if done is None:
        progress(wanted.entries)
        return wanted
    noted = done
    for start in range(done, wanted.entries, options.batch_rows):
        progress(start)
        stop = min(start + options.batch_rows, wanted.entries)
        _write(client, rows_of(source, wanted, start, stop))
        if stop - noted >= _NOTED_BATCHES * options.batch_rows:
            client.set_properties({PROGRESS: str(stop)})
            noted = stop
    client.set_properties({PROGRESS: str(wanted.entries)})
    progress(wanted.entries)
    say(f"indexing {wanted.entries} vectors: Milvus {wanted.index.type}")
    client.finish(wanted.vector, wanted.index.type, wanted.index.build)
    rows = client.count()
    if rows != wanted.entries:
        raise CollectionError(
            f"it has {rows} rows and should have {wanted.entries}: something else wrote to it. "
            "Load it again with --restart.",
            client.address,
        )
    client.set_properties({MANIFEST: wanted.model_dump_json(exclude_none=True)})
    return wanted


def _write(client: MilvusClient, rows: list[dict[str, Any]]) -> None:
    """Write a batch; an engine that is busy, or restarts, gets a few tries."""
    pauses = pauses_s()
    for _ in range(_TRIES - 1):
        try:
            client.upsert(rows)
        except EngineError:
            sleep(next(pauses))
        else:
            return
    client.upsert(rows)


def _begin(
    client: MilvusClient,
    wanted: MilvusManifest,
    restart: bool,
    say: Callable[[str], object],
) -> int | None:
    """How many rows are there already; None where nothing is left to do."""
    address = client.address
    exists = client.exists()
    properties = client.properties() if exists else {}
    if exists and not {LOADING, MANIFEST} & properties.keys():
        raise CollectionError(
            "not a caption collection: xmore did not load it. Choose another name.", address
        )
    if exists and restart:
        client.drop()
        exists = False
    if not exists:
        texts = TEXT_FIELDS[wanted.kind]
        plan = {LOADING: wanted.model_dump_json(exclude_none=True), PROGRESS: "0"}
        client.create(wanted.vector, wanted.model.embed_dim, texts, plan)
        return 0
    if MANIFEST in properties:
        if read_manifest(properties, address) == wanted:
            say(f"{address} holds this collection already")
            return None
        raise CollectionError(
            "another collection is there. Choose another name, or replace it with --restart; "
            "servers that use it do without until it is loaded and they are reloaded.",
            address,
        )
    if parse_manifest(properties[LOADING], address) != wanted:
        raise CollectionError(
            "the half of another collection is there. Go on with that one, or throw it away with "
            "--restart.",
            address,
        )
    return rows_loaded(properties)
