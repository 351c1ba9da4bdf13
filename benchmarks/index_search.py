"""`python benchmarks/index_search.py`: one million clustered vectors, searched one at a time.

Builds an index as `xmore index build` does, opens it in a fresh process, and prints what the time
of one query, recall@16, resident memory and the opening are.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import faiss
import numpy as np
import psutil

from app.index.manifest import (
    EXACT_FILE,
    FAISS_FILE,
    FORMAT_VERSION,
    LISTS_FILE,
    OFFSETS_FILE,
    TEXT_FILE,
    FileName,
    Kind,
    Manifest,
    ModelStamp,
    stamp_file,
)
from app.index.search import (
    RECALL_AT,
    Block,
    FloatArray,
    HalfArray,
    SearchIndex,
    build_search,
    choose_factory,
    exact_search,
    normalised,
)
from app.index.store import write_store

DIM = 512
CENTRES = 5000
BLOCK = 50_000
QUERIES = 1000
NOISE = 0.7


def clustered(count: int, seed: int) -> FloatArray:
    """Unit vectors around centres that are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, DIM), np.float32)
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(CENTRES, size=count)]
    vectors += NOISE * rng.standard_normal((count, DIM), np.float32)
    return normalised(vectors)


def block(number: int) -> HalfArray:
    """Some of the vectors, made anew each time."""
    return clustered(BLOCK, 1 + number).astype(np.float16)


def build(directory: Path, vectors: int, factory: str) -> None:
    """Write a collection whose captions are numbers, and the exact answers."""
    start = perf_counter()
    write_store((f"caption {number}" for number in range(vectors)), directory)
    blocks = [Block(BLOCK, partial(block, number)) for number in range(vectors // BLOCK)]
    faiss_stamp = build_search(blocks, DIM, Kind.CAPTIONS, factory, directory)
    names: tuple[FileName, ...] = (FAISS_FILE, LISTS_FILE, EXACT_FILE, TEXT_FILE, OFFSETS_FILE)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="benchmark",
        kind=Kind.CAPTIONS,
        captions=vectors,
        model=ModelStamp(name="none", fingerprint="0" * 64, embed_dim=DIM),
        faiss=faiss_stamp,
        files={name: stamp_file(directory / name) for name in names if (directory / name).exists()},
    )
    (directory / "manifest.json").write_text(manifest.model_dump_json(exclude_none=True))
    print(f"built in {perf_counter() - start:.0f} s: {factory}, nprobe {faiss_stamp.nprobe}")
    queries = clustered(QUERIES, 10**6)
    np.save(
        directory / "exact.npy",
        exact_search(queries, (block.read() for block in blocks), RECALL_AT),
    )


def measure(directory: Path) -> dict[str, float]:
    """Open and search in this process, on one thread."""
    from app.index.collection import Collection

    faiss.omp_set_num_threads(1)
    start = perf_counter()
    collection = Collection.open(directory, verify=False)
    opened = perf_counter() - start
    start = perf_counter()
    Collection.open(directory, verify=True)
    verified = perf_counter() - start
    queries = clustered(QUERIES, 10**6)
    index: SearchIndex = collection.index
    recall = index.recall(queries, np.load(directory / "exact.npy"))
    times = []
    for query in queries:
        start = perf_counter()
        collection.nearest(query[np.newaxis], RECALL_AT)
        times.append(1000 * (perf_counter() - start))
    return {
        "opening_s": opened,
        "opening_with_checksums_s": verified,
        "recall_at_16": recall,
        "search_p50_ms": float(np.percentile(times, 50)),
        "search_p99_ms": float(np.percentile(times, 99)),
        # Not ru_maxrss: after an exec it still holds the memory of the process that built.
        "resident_gb": psutil.Process().memory_info().rss / 1e9,
        "disk_gb": sum(file.bytes for file in collection.manifest.files.values()) / 1e9,
    }


def main() -> None:
    """Build, then measure in a process of its own, whose memory is that of serving."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--faiss", help="FAISS factory string; default: by size")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    with TemporaryDirectory() as folder:
        factory = arguments.faiss or choose_factory(arguments.vectors, DIM)
        build(Path(folder), arguments.vectors, factory)
        command = [sys.executable, __file__, "--measure", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file
        for name, value in json.loads(done.stdout).items():
            print(f"{name:<26} {value:.3f}")


if __name__ == "__main__":
    main()
