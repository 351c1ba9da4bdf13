"""`python benchmarks/milvus.py COLLECTION`: the same collection in FAISS and in embedded Milvus.

Copies a collection from its directory into Milvus's embedded engine, asks both about the same
photos in one run, and prints how much of the 16 retrieved captions agrees, how far the fused
probabilities differ, and what a search takes. Milvus's agreement with exact search over the same
vectors stands beside, and FAISS is asked again with more of its lists: either index may be the one
that misses.
"""

import argparse
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from loky import cpu_count

from app.clip.decode import decode_image
from app.clip.labels import DEFAULT_TEMPLATE, fill
from app.clip.model import ClipModel, load_chosen_model
from app.engine import DEFAULT_CAPTIONS, stamp
from app.index.collection import Collection
from app.index.manifest import MANIFEST, Kind, read_manifest
from app.index.milvus.collection import MilvusCollection
from app.index.milvus.load import LoadOptions, load_collection
from app.index.milvus.manifest import MilvusIndexType
from app.index.place import MilvusAddress, MilvusOptions
from app.index.search import exact_search, normalised
from app.settings import Settings
from app.xmore.ensemble import Probabilities, ensemble
from app.xmore.retrieval import (
    CANDIDATES,
    CaptionCollection,
    FloatArray,
    RetrievedCaptions,
    retrieve,
)
from benchmarks.photos import SMALL, photos
from benchmarks.words import TEN_LABELS

_BATCH = 16
_WIDER = (1, 2, 4)
"""How many times as many lists FAISS visits as its collection says."""
_WANTED = 0.01
_PATIENT = MilvusOptions(timeout_s=600)
_SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The photos, embedded, (n, d), and the labels that are asked about, (labels, d)."""

    images: FloatArray
    labels: FloatArray


@dataclass(frozen=True, slots=True)
class Answered:
    """What one engine gave for each photo, and milliseconds of search and of the whole step."""

    captions: list[RetrievedCaptions]
    search_ms: FloatArray
    retrieve_ms: FloatArray


def files(tar: Path, count: int) -> tuple[list[bytes], Sequence[str]]:
    """Photos drawn from a tar, the same ones every time, and its folders as labels if it has some.

    Args:
        tar: images, in one folder a class or in none.
        count: how many.
    """
    with tarfile.open(tar) as archive:
        members = [m for m in archive.getmembers() if Path(m.name).suffix.lower() in _SUFFIXES]
        drawn = random.Random(0).sample(members, min(count, len(members)))
        data = [archive.extractfile(member) for member in drawn]
        found = [file.read() for file in data if file is not None]
    names = sorted({Path(member.name).parent.name for member in members})
    return found, names if len(names) > 1 else TEN_LABELS


def embed(model: ClipModel, images: Sequence[bytes], labels: Sequence[str]) -> Asked:
    """Photos and labels by the model."""
    rows = []
    for start in range(0, len(images), _BATCH):
        batch = [decode_image(file, 50_000_000) for file in images[start : start + _BATCH]]
        rows.append(model.encode_images([model.pixels(image) for image in batch]))
    return Asked(
        np.concatenate(rows), model.encode_texts([fill(DEFAULT_TEMPLATE, name) for name in labels])
    )


def answer(collection: CaptionCollection, images: FloatArray) -> Answered:
    """Ask one photo at a time, as requests do."""
    captions, search_ms, retrieve_ms = [], [], []
    for v in images:
        start = perf_counter()
        collection.search(v[np.newaxis], CANDIDATES)
        search_ms.append(1000 * (perf_counter() - start))
        start = perf_counter()
        captions += retrieve(v[np.newaxis], collection, DEFAULT_CAPTIONS)
        retrieve_ms.append(1000 * (perf_counter() - start))
    return Answered(captions, np.array(search_ms, np.float32), np.array(retrieve_ms, np.float32))


def overlap(one: Sequence[RetrievedCaptions], other: Sequence[RetrievedCaptions]) -> float:
    """The share of the one's captions that the other has too."""
    same = sum(
        len(set(a.ids.tolist()) & set(b.ids.tolist())) for a, b in zip(one, other, strict=True)
    )
    return same / sum(len(a) for a in one)


def fused(model: ClipModel, asked: Asked, found: Answered) -> Probabilities:
    """Fused probabilities of each photo, (n, labels)."""
    embeddings = [captions.embeddings for captions in found.captions]
    together = ensemble(asked.images, embeddings, asked.labels, model.logit_scale)
    return together.probabilities


def missed(collection: Collection, images: FloatArray, found: Answered) -> Iterator[bool]:
    """Whether each of the 16 exactly nearest captions of each photo was found."""
    exact = exact_search(images, collection.index.blocks(), DEFAULT_CAPTIONS)
    for ids, captions in zip(exact, found.captions, strict=True):
        vectors = normalised(collection.embeddings(captions.ids))
        nearest = normalised(collection.embeddings(ids))
        for vector in nearest:
            # Equal vectors may be told apart by the search's order alone.
            yield bool((vectors @ vector).max(initial=-1) < 1 - 1e-5)


def show(name: str, milliseconds: FloatArray) -> None:
    """Half and 99 of 100 are below these."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    print(f"{name:<34} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms")


def wider(directory: Path, times: int, scratch: Path) -> Collection | None:
    """The same collection, of whose lists a query visits so many times more; None without lists.

    Args:
        directory: the collection.
        times: how many times.
        scratch: a folder for links to its files.
    """
    manifest = read_manifest(directory)
    if manifest.faiss.nprobe is None:
        return None
    copy = scratch / str(times)
    copy.mkdir()
    for name in manifest.files:
        (copy / name).symlink_to((directory / name).resolve())
    faiss = manifest.faiss.model_copy(update={"nprobe": times * manifest.faiss.nprobe})
    text = manifest.model_copy(update={"faiss": faiss}).model_dump_json(exclude_none=True)
    (copy / MANIFEST).write_text(text)
    return Collection.open(copy, verify=False)


def load(source: Collection, address: MilvusAddress, index: MilvusIndexType | None) -> None:
    """Copy the collection into the engine, if it is not there."""
    start = perf_counter()
    manifest = load_collection(source, address, _PATIENT, LoadOptions(index))
    seconds = perf_counter() - start
    disk = sum(path.stat().st_size for path in Path(address.uri).rglob("*") if path.is_file())
    print(f"{'loaded into Milvus':<34} {seconds:.0f} s, {manifest.entries / seconds:.0f} rows/s")
    print(f"{'disk':<34} {disk / 1e6:.0f} MB, index {manifest.index.type}")


def compare(
    name: str, by_faiss: Answered, by_milvus: Answered, asked: Asked, model: ClipModel
) -> None:
    """Print how far FAISS and Milvus agree."""
    show(f"{name}, search", by_faiss.search_ms)
    show(f"{name}, search and re-ranking", by_faiss.retrieve_ms)
    same = overlap(by_faiss.captions, by_milvus.captions)
    print(f"{f'{name}, overlap of the 16':<34} {same:.4f}")
    differences = np.abs(fused(model, asked, by_faiss) - fused(model, asked, by_milvus)).max(axis=1)
    p50, p99 = np.percentile(differences, [50, 99])
    print(
        f"{f'{name}, fused differ by':<34} p50 {p50:.5f}   p99 {p99:.5f}   "
        f"max {differences.max():.5f}   within 0.01: {(differences <= _WANTED).mean():.0%}"
    )


def main() -> None:
    """Read the command line, load, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--photos", type=Path, help="a tar of photos; default: scikit-image's")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--engine", type=Path, help="a FILE.db to keep, which loads only once")
    parser.add_argument("--milvus-index", type=MilvusIndexType, choices=list(MilvusIndexType))
    arguments = parser.parse_args()
    torch.set_num_threads(cpu_count())
    source = Collection.open(arguments.collection)
    model = load_chosen_model(Settings())
    source.check_model(stamp(model))
    if arguments.photos:
        images, labels = files(arguments.photos, arguments.queries)
    else:
        images, labels = photos(arguments.queries, SMALL), TEN_LABELS
    print(f"{'asked':<34} {len(images)} photos, {len(labels)} labels, {len(source)} captions")
    asked = embed(model, images, labels)
    with TemporaryDirectory() as folder:
        file = str(arguments.engine or Path(folder, "engine.db"))
        address = MilvusAddress(f"milvus:{file}/benchmark", file, "benchmark")
        load(source, address, arguments.milvus_index)
        start = perf_counter()
        milvus = MilvusCollection.open(address, _PATIENT)
        print(f"{'opened':<34} {perf_counter() - start:.1f} s")
        answer(milvus, asked.images[:3])
        by_milvus = answer(milvus, asked.images)
        show("Milvus, search", by_milvus.search_ms)
        show("Milvus, search and re-ranking", by_milvus.retrieve_ms)
        if source.manifest.kind is Kind.CAPTIONS:
            lost = np.mean(list(missed(source, asked.images, by_milvus)))
            print(f"{'Milvus, recall@16 of exact search':<34} {1 - lost:.4f}")
        for times in _WIDER:
            collection = wider(arguments.collection, times, Path(folder)) or source
            faiss = collection.manifest.faiss
            name = "FAISS" if faiss.nprobe is None else f"FAISS {faiss.nprobe} lists"
            answer(collection, asked.images[:3])
            compare(name, answer(collection, asked.images), by_milvus, asked, model)
            if faiss.nprobe is None:
                break


if __name__ == "__main__":
    main()
