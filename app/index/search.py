"""The FAISS index of a collection: which type, how it is built from shards, opened and asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import numpy.typing as npt
from faiss.contrib.exhaustive_search import knn_ground_truth
from faiss.contrib.ondisk import merge_ondisk

from app.index.manifest import (
    EXACT_FILE,
    FAISS_FILE,
    LISTS_FILE,
    CollectionError,
    FaissStamp,
    Kind,
    Manifest,
)
from app.index.store import open_array

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
HalfArray = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Block:
    """Vectors that follow each other, read only where they are needed.

    Attributes:
        rows: how many.
        read: gives them, (rows, d) fp16; as often as it is called, and in another process too.
    """

    rows: int
    read: Callable[[], HalfArray]


Blocks = Sequence[Block]
"""All vectors in order."""


@dataclass(frozen=True, slots=True)
class Part:
    """Vectors whose inverted lists go into a file of their own, to be merged on disk.

    Attributes:
        path: the file.
        trained: the file of the trained, empty index.
        first: the id of the first vector.
        blocks: the vectors.
    """

    path: Path
    trained: Path
    first: int
    blocks: Blocks

    def write(self) -> None:
        """Add the vectors to a copy of the trained index."""
        index = faiss.read_index(str(self.trained))
        first = self.first
        for block in self.blocks:
            ids = np.arange(first, first + block.rows)
            index.add_with_ids(block.read().astype(np.float32), ids)
            first += block.rows
        faiss.write_index(index, str(self.path))


WriteParts = Callable[[Sequence[Part]], object]


def write_parts(parts: Sequence[Part]) -> None:
    """Write parts one after the other."""
    for part in parts:
        part.write()


RECALL_AT = 16
_EXACT_BELOW = 30_000
_COMPRESSED_FROM = 20_000_000
_TRAINING_BYTES = 2**29
_PER_LIST = 64
_PROBES = 256
_WANTED_RECALL = 0.99
_ENOUGH_GAIN = 0.002
_LEAST_CAP = 8
_LARGEST_SHARE = 4
_K_FACTOR = 8
_FAITHFUL = 0.99
_BLOCK_ROWS = 8192
_PART_ROWS = 2**19


def choose_factory(entries: int, dim: int) -> str:
    """The FAISS type for a size.

    Exact search over fp16 below 30,000 vectors; then inverted lists of 8-bit codes, about sqrt(n)
    lists; from 20 million on, a product quantizer of about a byte to eight dimensions, whose
    answers are re-ranked by exact vectors on disk.
    """
    if entries < _EXACT_BELOW:
        return "SQfp16"
    lists = 2 ** round(np.log2(entries**0.5))
    if entries < _COMPRESSED_FROM:
        return f"IVF{lists},SQ8"
    parts = max(part for part in range(1, max(2, dim // 8 + 1)) if dim % part == 0)
    return f"OPQ{parts},IVF{lists},PQ{parts}"


class SearchIndex:
    """An opened FAISS index with the parameters that its collection stores for it.

    The index and, where it compresses much, the exact vectors are memory-mapped.
    """

    def __init__(self, index: faiss.Index, stamp: FaissStamp, exact: HalfArray | None) -> None:
        self._index = index
        self._stamp = stamp
        self._exact = exact
        self._ivf = _inverted(index)

    @classmethod
    def open(cls, directory: Path, manifest: Manifest) -> Self:
        """Map the index of a collection.

        Raises:
            CollectionError: it is no index, or not the one that the manifest describes.
        """
        index = _read(directory)
        dim = manifest.model.embed_dim
        if index.d != dim:
            raise CollectionError(
                f"the index has {index.d} dimensions, the manifest says {dim}. "
                "Build the collection again.",
                directory,
            )
        exact = None
        if manifest.faiss.k_factor is not None:
            exact = open_vectors(directory, EXACT_FILE, index.ntotal, dim)
        elif (ivf := _inverted(index)) is not None:
            ivf.make_direct_map()
        return cls(index, manifest.faiss, exact)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: FloatArray, count: int) -> IdArray:
        """Rows of the nearest vectors by inner product, (queries, count), best first.

        A row that FAISS cannot fill ends in -1.
        """
        count = min(count, len(self))
        if count == 0:
            return np.empty((len(queries), 0), np.int64)
        queries = np.ascontiguousarray(queries, np.float32)
        if self._exact is None:
            return self._ask(queries, count)
        found = self._ask(queries, min(len(self), count * (self._stamp.k_factor or 1)))
        return np.stack(
            [self._refine(query, rows, count) for query, rows in zip(queries, found, strict=True)]
        )

    def _refine(self, query: FloatArray, rows: IdArray, count: int) -> IdArray:
        """The best of what a lossy index found, by exact vectors."""
        rows = rows[rows >= 0]
        order = np.argsort(-(self.vectors(rows) @ query), kind="stable")[:count]
        out = np.full(count, -1, np.int64)
        out[: len(order)] = rows[order]
        return out

    def _ask(self, queries: FloatArray, count: int) -> IdArray:
        _, rows = self._index.search(queries, count, params=self._parameters(count))
        return np.asarray(rows, np.int64)

    def _parameters(self, count: int) -> faiss.SearchParameters | None:
        if self._stamp.nprobe is None or self._ivf is None:
            return None
        # A deep search needs enough lists to hold `count` vectors, and as many again.
        lists = self._ivf.nlist
        needed = -(-2 * count * lists // len(self))
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = min(lists, max(self._stamp.nprobe, needed))
        if not isinstance(self._index, faiss.IndexPreTransform):
            return parameters
        outer: Any = faiss.SearchParametersPreTransform()
        outer.index_params = parameters
        # FAISS keeps a bare pointer; the outer one has to hold on to what it points to.
        outer.referenced_objects = [parameters]
        checked: faiss.SearchParameters = outer
        return checked

    def vectors(self, rows: IdArray) -> FloatArray:
        """Stored vectors of rows, (n, d), normalised again after compression.

        Raises:
            IndexError: a row is not in the index.
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"row out of range 0..{len(self) - 1}")
        if self._exact is not None:
            return normalised(self._exact[rows])
        return normalised(self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64)))

    def blocks(self) -> Iterator[FloatArray]:
        """All stored vectors in order, (n, d) at a time."""
        for start in range(0, len(self), _BLOCK_ROWS):
            yield self.vectors(np.arange(start, min(start + _BLOCK_ROWS, len(self))))

    def recall(self, queries: FloatArray, exact: IdArray) -> float:
        """The share of the exact answer that is found, for (queries, k) exact rows."""
        found = self.search(queries, exact.shape[1])
        hits = sum(
            len(set(f) & set(e)) for f, e in zip(found.tolist(), exact.tolist(), strict=True)
        )
        return hits / exact.size


def normalised(vectors: npt.NDArray[Any]) -> FloatArray:
    """Rows of length 1, float32."""
    wide = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    out: FloatArray = wide / np.maximum(norms, 1e-12)
    return out


def open_vectors(directory: Path, name: str, rows: int, dim: int) -> HalfArray:
    """Map a file of fp16 vectors.

    Raises:
        CollectionError: it holds something else, or another number of vectors.
    """
    vectors = open_array(directory, name)
    if vectors.dtype != np.float16 or vectors.shape != (rows, dim):
        raise CollectionError(
            f"{name} holds {vectors.dtype} of shape {vectors.shape}, not {rows} fp16 vectors of "
            f"{dim} dimensions. Build the collection again.",
            directory,
        )
    return vectors


def exact_search(queries: FloatArray, blocks: Iterator[npt.NDArray[Any]], k: int) -> IdArray:
    """Rows of the k nearest vectors, found by comparing with each of them."""
    wide = (np.ascontiguousarray(block, np.float32) for block in blocks)
    _, rows = knn_ground_truth(queries, wide, k, metric_type=faiss.METRIC_INNER_PRODUCT, ngpu=0)
    return np.asarray(rows, np.int64)


def probe_queries(vectors: FloatArray, kind: Kind) -> FloatArray:
    """Queries to measure recall with, from stored unit-norm vectors, (n, d).

    An image lies nearer to other images than to captions. So a query of `captions` is a stored
    vector with as much noise as signal, one of `pairs` with half as much: a stand-in for photos,
    which a builder of captions does not have.
    """
    noise = np.random.default_rng(1).standard_normal(vectors.shape)
    noise *= 1.0 if kind is Kind.CAPTIONS else 0.5
    return normalised(vectors + noise / vectors.shape[1] ** 0.5)


def build_search(
    blocks: Blocks,
    dim: int,
    kind: Kind,
    factory: str,
    directory: Path,
    write: WriteParts = write_parts,
) -> FaissStamp:
    """Write the FAISS index over all vectors into a directory, within bounded memory.

    The training sample has at most half a gibibyte. Inverted lists are made half a million
    vectors at a time and merged on disk; types without lists are held in memory meanwhile.

    Args:
        blocks: the vectors, fp16, of d dimensions.
        dim: d.
        kind: of the collection.
        factory: FAISS's index type.
        directory: where the index goes.
        write: writes the parts, which are independent of each other.

    Raises:
        CollectionError: FAISS does not know the type, or it does not fit the vectors.
    """
    index = _empty(factory, dim)
    ivf = _inverted(index)
    entries = sum(block.rows for block in blocks)
    sample = _sample(blocks, entries, _training_size(entries, dim, ivf))
    try:
        index.train(sample)
    except RuntimeError as error:
        raise CollectionError(
            f"FAISS cannot train '{factory}' on {len(sample)} vectors of {dim} dimensions; choose "
            f"another --faiss ({_last_words(error)})"
        ) from error
    if ivf is None:
        for block in blocks:
            index.add(block.read().astype(np.float32))
        faiss.write_index(index, str(directory / FAISS_FILE))
    else:
        _write_lists(index, blocks, directory, write)
    probes = normalised(_sample(blocks, entries, min(entries, _PROBES)))
    return _measure(blocks, probes, kind, factory, directory)


def _empty(factory: str, dim: int) -> faiss.Index:
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise CollectionError(
            f"FAISS knows no index type '{factory}' for {dim} dimensions ({_last_words(error)})"
        ) from error
    ivf = _inverted(index)
    if ivf is not None:
        ivf.cp.seed = 0
    return index


def _last_words(error: Exception) -> str:
    """What FAISS says, without its own file and function."""
    return str(error).rpartition(": ")[2].strip()


def _training_size(entries: int, dim: int, ivf: Any) -> int:
    wanted = max(_EXACT_BELOW, 0 if ivf is None else _PER_LIST * ivf.nlist)
    return min(entries, wanted, _TRAINING_BYTES // (4 * dim))


def _sample(blocks: Blocks, entries: int, size: int) -> FloatArray:
    """Vectors drawn without replacement, the same ones every time; in their order."""
    rows = np.sort(np.random.default_rng(0).choice(entries, size, replace=False))
    taken, start = [], 0
    for block in blocks:
        inside = rows[(rows >= start) & (rows < start + block.rows)] - start
        if len(inside):
            taken.append(np.asarray(block.read()[inside], np.float32))
        start += block.rows
    return np.concatenate(taken)


def _write_lists(index: faiss.Index, blocks: Blocks, directory: Path, write: WriteParts) -> None:
    """Write the vectors part by part, then merge the parts' inverted lists on disk."""
    trained = directory / "trained.faiss"
    faiss.write_index(index, str(trained))
    parts = _parts(blocks, directory, trained)
    write(parts)
    merge_ondisk(index, [str(part.path) for part in parts], str(directory / LISTS_FILE))
    lists: Any = faiss.downcast_InvertedLists(_inverted(index).invlists)
    # The name alone: a collection may be moved, and is the same wherever it was built.
    lists.filename = LISTS_FILE
    faiss.write_index(index, str(directory / FAISS_FILE))
    for path in (trained, *(part.path for part in parts)):
        path.unlink()


def _parts(blocks: Blocks, directory: Path, trained: Path) -> list[Part]:
    """Blocks that follow each other, together as many rows as one part takes."""
    parts: list[Part] = []
    group: list[Block] = []
    first = rows = 0
    for number, block in enumerate(blocks, 1):
        group.append(block)
        rows += block.rows
        if rows >= _PART_ROWS or number == len(blocks):
            path = directory / f"part-{len(parts):06d}.faiss"
            parts.append(Part(path, trained, first, tuple(group)))
            first, rows, group = first + rows, 0, []
    return parts


def _measure(
    blocks: Blocks, probes: FloatArray, kind: Kind, factory: str, directory: Path
) -> FaissStamp:
    """How the index is to be asked: lists visited, and whether its answers need re-ranking."""
    index = _read(directory)
    ivf = _inverted(index)
    k_factor = None if _is_faithful(index, blocks) else _K_FACTOR
    if k_factor is not None:
        write_vectors(blocks, index.d, directory / EXACT_FILE)
    exact = None
    if k_factor is not None:
        exact = open_vectors(directory, EXACT_FILE, int(index.ntotal), index.d)
    if ivf is None:
        return FaissStamp(factory=factory, k_factor=k_factor)
    queries = probe_queries(probes, kind)
    arrays = (block.read() for block in blocks)
    truth = exact_search(queries, arrays, min(RECALL_AT, int(index.ntotal)))
    # Where neighbours lie everywhere, only visiting all lists would find them: no search at all.
    most = min(ivf.nlist, max(_LEAST_CAP, ivf.nlist // _LARGEST_SHARE))
    nprobe, best = 1, 0.0
    while True:
        stamp = FaissStamp(factory=factory, nprobe=nprobe, k_factor=k_factor)
        recall = SearchIndex(index, stamp, exact).recall(queries, truth)
        if recall >= _WANTED_RECALL or nprobe >= most or 0 < recall < best + _ENOUGH_GAIN:
            return stamp
        nprobe, best = min(2 * nprobe, most), recall


def write_vectors(blocks: Blocks, dim: int, path: Path) -> None:
    """Write all vectors as one array file of fp16, block by block."""
    rows = sum(block.rows for block in blocks)
    out = np.lib.format.open_memmap(path, "w+", np.float16, (rows, dim))
    start = 0
    for block in blocks:
        out[start : start + block.rows] = block.read()
        start += block.rows
    out.flush()


def _is_faithful(index: faiss.Index, blocks: Blocks) -> bool:
    """Whether the index gives vectors back as they went in, as fp16 and 8-bit codes do."""
    first = blocks[0].read()[:_PROBES]
    ivf = _inverted(index)
    if ivf is not None:
        ivf.make_direct_map()
    try:
        back = index.reconstruct_batch(np.arange(len(first)))
    except RuntimeError:
        return False
    cosines = (normalised(back) * normalised(first)).sum(axis=1)
    return bool(cosines.min() >= _FAITHFUL)


def _inverted(index: faiss.Index) -> Any:
    """The index of inverted lists in an index, if there is one."""
    return faiss.try_extract_index_ivf(index)


def _read(directory: Path) -> faiss.Index:
    """Map an index: its codes are read from the file as they are looked at."""
    try:
        index = faiss.read_index(
            str(directory / FAISS_FILE), faiss.IO_FLAG_SKIP_IVF_DATA | faiss.IO_FLAG_MMAP_IFC
        )
        ivf = _inverted(index)
        if ivf is not None:
            _map_lists(ivf, directory / LISTS_FILE)
    except RuntimeError as error:
        raise CollectionError(
            f"FAISS cannot read {FAISS_FILE} ({_last_words(error)}). Build the collection again.",
            directory,
        ) from error
    return index


def _map_lists(ivf: Any, path: Path) -> None:
    """Map the inverted lists from beside the index, wherever the collection has been moved."""
    lists = faiss.downcast_InvertedLists(ivf.invlists)
    if not isinstance(lists, faiss.OnDiskInvertedLists) or not path.is_file():
        raise CollectionError(
            f"{FAISS_FILE} has its lists not in {LISTS_FILE}. Build the collection again.",
            path.parent,
        )
    if lists.totsize != path.stat().st_size:
        raise CollectionError(
            f"{LISTS_FILE} is not of the same build as {FAISS_FILE}. Build the collection again.",
            path.parent,
        )
    lists.filename = str(path)
    lists.read_only = True
    # Its threads, started for every query, cost more than they save on a file in the page cache.
    lists.prefetch_nthread = 0
    lists.do_mmap()
