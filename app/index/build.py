"""Build a caption collection: read, fold, embed, index, and put it in place whole.

The way of a build: sources -> shards (embedded, on disk) -> FAISS index and caption store ->
manifest -> the directory gets its name. Memory holds one shard, one training sample and eight
bytes a caption; a build that was killed keeps its shards and gives the same bytes. Who embeds the
shards and adds them to the index, this process or many, makes no difference to the rest.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from app.index.embedder import Embedder
from app.index.making import Progress, ShardRules
from app.index.manifest import (
    CAPTION_VECTORS_FILE,
    EXACT_FILE,
    FAISS_FILE,
    FIRST_CAPTION_FILE,
    FORMAT_VERSION,
    LISTS_FILE,
    MANIFEST,
    OFFSETS_FILE,
    REPORT,
    TEXT_FILE,
    CollectionError,
    FileName,
    Kind,
    Manifest,
    looks_like_collection,
    stamp_file,
    sync,
)
from app.index.plan import Plan, agree, sources_fingerprint
from app.index.report import Report
from app.index.search import build_search, choose_factory, write_vectors
from app.index.shard import Shard, ShardFolder
from app.index.sources.record import Source
from app.index.store import write_store
from app.index.workers import InProcess, Workers

_FILES: tuple[FileName, ...] = (
    FAISS_FILE,
    LISTS_FILE,
    EXACT_FILE,
    TEXT_FILE,
    OFFSETS_FILE,
    CAPTION_VECTORS_FILE,
    FIRST_CAPTION_FILE,
)

SHARD_RECORDS = {Kind.CAPTIONS: 16_384, Kind.PAIRS: 2048}
"""Records of a shard: some minutes of work, which a kill may cost."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a collection is built.

    Attributes:
        name: its name in answers.
        kind: what it is searched by.
        factory: FAISS's index type; None chooses by size.
        strict: stop at the first row or image that cannot be used.
        shard_records: see `SHARD_RECORDS`.
        restart: throw an unfinished build away.
    """

    name: str
    kind: Kind = Kind.CAPTIONS
    factory: str | None = None
    strict: bool = False
    shard_records: int | None = None
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """A finished collection: its manifest, and what was left out."""

    manifest: Manifest
    report: Report


def build_collection(
    sources: Sequence[Source],
    out: Path,
    embedder: Embedder,
    options: Options,
    progress: Progress = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> Built:
    """Build a collection in this process, see `build_with`."""
    return build_with(InProcess(embedder), sources, out, options, progress, say)


def build_with(
    workers: Workers,
    sources: Sequence[Source],
    out: Path,
    options: Options,
    progress: Progress = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> Built:
    """Build a collection at `out`, which must not exist or be a collection.

    Args:
        workers: who embeds.
        sources: what to read, see `app.index.sources.detect`.
        out: the directory to make; an older collection there is replaced at the very end.
        options: kind, index type and the like.
        progress: called after every batch.
        say: called with what is being done, in words.

    Raises:
        CollectionError: `out` holds something else, an unfinished build of other sources is
            there, another process is building there, nothing could be read, or the options do not
            fit the sources.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f".{out.name}.lock")
    try:
        # The system lets go of it when a process ends, however it ends.
        with FileLock(lock, timeout=0):
            try:
                return _build(workers, sources, out, options, progress, say)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise CollectionError(
            "another process is building a collection here; wait for it, or choose another --out",
            out,
        ) from None


def _build(
    workers: Workers,
    sources: Sequence[Source],
    out: Path,
    options: Options,
    progress: Progress,
    say: Callable[[str], object],
) -> Built:
    _put_back(out)
    _check_replaceable(out)
    _check_images(sources, options.kind)
    partial = out.with_name(f".{out.name}.partial")
    if options.restart:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    records = options.shard_records or SHARD_RECORDS[options.kind]
    folder = ShardFolder(partial / "shards")
    plan = Plan(
        kind=options.kind,
        model=workers.stamp,
        shard_records=records,
        sources=sources_fingerprint(sources),
    )
    agree(partial, plan, begun=folder.has_begun())
    folder.clear()
    rules = ShardRules(folder, options.kind, records, options.strict)
    shards = workers.make_shards(sources, rules, progress)
    report = sum_reports(shard.state.report for shard in shards)
    if not any(shard.state.captions for shard in shards):
        shutil.rmtree(partial)
        raise CollectionError(_nothing(report))
    collection = partial / "collection"
    shutil.rmtree(collection, ignore_errors=True)
    collection.mkdir()
    manifest = _assemble(shards, collection, workers, options, say)
    _write_text(collection / REPORT, report.model_dump_json(indent=2))
    _write_text(collection / MANIFEST, manifest.model_dump_json(indent=2, exclude_none=True))
    _publish(collection, out)
    shutil.rmtree(partial)
    return Built(manifest, report)


def sum_reports(reports: Iterable[Report]) -> Report:
    """All together."""
    total = Report()
    for report in reports:
        total = total.plus(report)
    return total


def _nothing(report: Report) -> str:
    said = "there are no captions to build a collection from"
    if report.samples:
        first = report.samples[0]
        said += f"; {report.faults} faults, the first: {first.origin}: {first.reason}"
    return said


def _check_images(sources: Sequence[Source], kind: Kind) -> None:
    for source in sources:
        if kind is Kind.PAIRS and not source.has_images:
            raise CollectionError(
                f"{source.name} has no images; build it with --kind captions, or name its column "
                "of images with --image-column"
            )


def _assemble(
    shards: Sequence[Shard],
    directory: Path,
    workers: Workers,
    options: Options,
    say: Callable[[str], object],
) -> Manifest:
    """Write every file but manifest and report."""
    pairs = options.kind is Kind.PAIRS
    captions = write_store(chain.from_iterable(shard.captions for shard in shards), directory)
    dim = workers.stamp.embed_dim
    filled = [shard for shard in shards if shard.state.captions]
    blocks = [shard.caption_vectors for shard in filled]
    images = None
    if pairs:
        write_vectors(blocks, dim, directory / CAPTION_VECTORS_FILE)
        blocks = [shard.image_vectors for shard in filled]
        counts = np.concatenate([shard.counts for shard in filled])
        np.save(directory / FIRST_CAPTION_FILE, np.concatenate([[0], np.cumsum(counts)]))
        images = len(counts)
    entries = captions if images is None else images
    factory = options.factory or choose_factory(entries, dim)
    say(f"{entries} vectors of {dim} dimensions: FAISS {factory}")
    stamp = build_search(blocks, dim, options.kind, factory, directory, workers.write_parts)
    return Manifest(
        format_version=FORMAT_VERSION,
        name=options.name,
        kind=options.kind,
        captions=captions,
        images=images,
        model=workers.stamp,
        faiss=stamp,
        files={
            name: stamp_file(directory / name) for name in _FILES if (directory / name).exists()
        },
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _check_replaceable(out: Path) -> None:
    """Only nothing, an empty directory, or an older collection may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not looks_like_collection(out):
        raise CollectionError("exists and is not a caption collection; choose another --out", out)


def _retired(out: Path) -> Path:
    return out.with_name(f".{out.name}.retired")


def _put_back(out: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    if _retired(out).exists() and not out.exists():
        _retired(out).rename(out)


def _publish(finished: Path, out: Path) -> None:
    """Make the finished directory durable, then put it in place of the old one."""
    for path in (*finished.iterdir(), finished):
        sync(path)
    retired = _retired(out)
    if out.exists():
        shutil.rmtree(retired, ignore_errors=True)
        out.rename(retired)
    finished.rename(out)
    sync(out.parent)
    shutil.rmtree(retired, ignore_errors=True)
