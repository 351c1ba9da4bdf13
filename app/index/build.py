"""Build a caption collection: embed, index, and write it so that it is never seen half done."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from app.index.manifest import (
    FAISS_FILE,
    FILES,
    FORMAT_VERSION,
    MANIFEST,
    CollectionError,
    FaissStamp,
    Manifest,
    ModelStamp,
    read_manifest,
    stamp_file,
)
from app.index.store import write_store
from app.xmore.retrieval import fold

EmbedTexts = Callable[[list[str]], npt.NDArray[np.float32]]
Progress = Callable[[int], object]

_BATCH = 512
_EXACT_BELOW = 10_000


def choose_faiss(captions: int) -> FaissStamp:
    """The FAISS type for a size.

    Exact search over fp16 below 10,000 captions; above, inverted lists of 8-bit codes, about
    sqrt(n) lists, an eighth of which are visited.
    """
    if captions < _EXACT_BELOW:
        return FaissStamp(factory="SQfp16")
    lists = 2 ** round(np.log2(captions**0.5))
    return FaissStamp(factory=f"IVF{lists},SQ8", nprobe=max(1, lists // 8))


def unique_captions(captions: Iterable[str]) -> Iterator[str]:
    """Captions on one line each, without blanks and without repeats (see `retrieval.fold`)."""
    seen: set[str] = set()
    for caption in captions:
        text = " ".join(caption.split())
        key = fold(text)
        if key and key not in seen:
            seen.add(key)
            yield text


def build_collection(
    captions: Iterable[str],
    out: Path,
    name: str,
    model: ModelStamp,
    embed_texts: EmbedTexts,
    progress: Progress = lambda _: None,
) -> Manifest:
    """Build a collection of kind `captions` at `out`, which must not exist or be a collection.

    Args:
        captions: the captions; blanks and repeats are dropped.
        out: the directory to make; an older collection there is replaced at the very end.
        name: the collection's name in answers.
        model: which model `embed_texts` is.
        embed_texts: n texts to unit-norm embeddings (n, d) float32.
        progress: called with the number of captions embedded since the last call.

    Raises:
        CollectionError: `out` holds something else, or there are no captions.
    """
    _check_replaceable(out)
    kept = list(unique_captions(captions))
    if not kept:
        raise CollectionError("there are no captions to build a collection from")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_store(kept, partial)
    embeddings = np.empty((len(kept), model.embed_dim), np.float32)
    row = 0
    for chunk in batched_texts(kept):
        embeddings[row : row + len(chunk)] = embed_texts(chunk)
        row += len(chunk)
        progress(len(chunk))
    stamp = choose_faiss(len(kept))
    faiss.write_index(_build_faiss(embeddings, stamp), str(partial / FAISS_FILE))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        kind="captions",
        captions=len(kept),
        model=model,
        faiss=stamp,
        files={file: stamp_file(partial / file) for file in FILES},
    )
    (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _publish(partial, out)
    return manifest


def _check_replaceable(out: Path) -> None:
    """Only nothing, an empty directory, or an older collection may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        read_manifest(out)
    except CollectionError:
        raise CollectionError(
            f"{out} exists and is not a caption collection; choose another --out"
        ) from None


def batched_texts(texts: list[str]) -> Iterator[list[str]]:
    """Texts in order, in batches for the text tower."""
    for start in range(0, len(texts), _BATCH):
        yield texts[start : start + _BATCH]


def _build_faiss(embeddings: npt.NDArray[np.float32], stamp: FaissStamp) -> faiss.Index:
    index = faiss.index_factory(embeddings.shape[1], stamp.factory, faiss.METRIC_INNER_PRODUCT)
    if isinstance(index, faiss.IndexIVF):
        index.cp.seed = 0
    index.train(embeddings)
    index.add(embeddings)
    return index


def _publish(partial: Path, out: Path) -> None:
    """Make the finished directory durable, then put it in place of the old one."""
    for path in (*partial.iterdir(), partial):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    retired = out.with_name(f".{out.name}.retired")
    if out.exists():
        shutil.rmtree(retired, ignore_errors=True)
        out.rename(retired)
    partial.rename(out)
    shutil.rmtree(retired, ignore_errors=True)
