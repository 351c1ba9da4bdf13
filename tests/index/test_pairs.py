"""Pairs: found by their images, re-ranked and answered by their captions."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.manifest import (
    CAPTION_VECTORS_FILE,
    FIRST_CAPTION_FILE,
    CollectionError,
    Kind,
    ModelStamp,
    stamp_file,
)
from app.index.sources.detect import captions_in_memory, detect
from app.index.verify import verify
from app.xmore.retrieval import retrieve
from tests.index.embedders import FakeEmbedder, embed_by_hash
from tests.index.test_collection import edit_manifest

DIM = 32
IMAGES = 300
EMBEDDER = FakeEmbedder(ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=DIM))


def picture(number: int) -> bytes:
    return f"picture {number}".encode()


def captions_of(number: int) -> list[str]:
    """One to three captions, one of which every fourth image shares."""
    own = [f"caption {number} {letter}" for letter in "abc"[: number % 3]]
    return [f"shared {number % 4}", *own]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(IMAGES):
        (folder / f"{number:03d}.jpg").write_bytes(picture(number))
        text = "\n".join([*captions_of(number), captions_of(number)[0].upper(), ""])
        (folder / f"{number:03d}.txt").write_text(text)
    (folder / "bad.jpg").write_bytes(b"bad")
    (folder / "bad.txt").write_text("no picture")
    (folder / "mute.jpg").write_bytes(b"mute")
    (folder / "mute.txt").write_text("\n")
    return folder


def build(folder: Path, out: Path, **options: object) -> Collection:
    build_collection(
        detect([folder]),
        out,
        EMBEDDER,
        Options(name="pairs", kind=Kind.PAIRS, shard_records=70, **options),  # type: ignore[arg-type]
    )
    return Collection.open(out)


@pytest.fixture(scope="module")
def directory(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collections") / "pairs"
    build(folder, out)
    return out


@pytest.fixture(scope="module")
def pairs(directory: Path) -> Collection:
    return Collection.open(directory)


def test_an_image_finds_itself_and_gives_all_its_captions(pairs: Collection) -> None:
    assert pairs.manifest.images == IMAGES
    assert len(pairs) == sum(len(captions_of(number)) for number in range(IMAGES))
    for number in (0, 1, 2, 69, 70, 299):
        v = embed_by_hash([picture(number)], DIM)
        ids = pairs.nearest(v, 1)
        assert pairs.texts(ids[0]) == captions_of(number)


def test_caption_embeddings_are_those_of_the_text_and_not_of_the_image(pairs: Collection) -> None:
    ids = np.array([0, 5, len(pairs) - 1])
    texts = embed_by_hash([text.encode() for text in pairs.texts(ids)], DIM)
    np.testing.assert_allclose(pairs.embeddings(ids), texts, atol=1e-3)


def test_candidates_are_found_by_image_and_ranked_by_text(pairs: Collection) -> None:
    v = embed_by_hash([picture(7)], DIM)
    candidates = 20
    (found,) = retrieve(v, pairs, 8, candidates=candidates)
    images = np.argsort(-embed_by_hash([picture(n) for n in range(IMAGES)], DIM) @ v[0])
    texts = list(dict.fromkeys(t for n in images[:candidates] for t in captions_of(int(n))))
    cosines = embed_by_hash([text.encode() for text in texts], DIM) @ v[0]
    best = [texts[i] for i in np.argsort(-cosines)[:8]]
    assert found.texts == best
    assert len(set(found.texts)) == 8


def test_short_rows_end_in_minus_one(pairs: Collection) -> None:
    ids = pairs.nearest(embed_by_hash([picture(0), picture(2)], DIM), 1)
    assert ids.shape == (2, 3)
    assert (ids[0, 1:] == -1).all()
    assert (ids[1] >= 0).all()
    assert pairs.nearest(embed_by_hash([picture(0)], DIM), 0).shape == (1, 0)


def test_every_distinct_caption_can_be_asked_for(pairs: Collection) -> None:
    (found,) = retrieve(embed_by_hash([picture(0)], DIM), pairs, 1000)
    distinct = {text for number in range(IMAGES) for text in captions_of(number)}
    assert set(found.texts) == distinct


def test_what_cannot_be_used_is_counted_and_named(folder: Path, tmp_path: Path) -> None:
    built = build_collection(
        detect([folder]), tmp_path / "out", EMBEDDER, Options(name="p", kind=Kind.PAIRS)
    )
    assert {sample.origin: sample.reason for sample in built.report.samples} == {
        "bad.jpg": "not an image",
        "mute.jpg": "it has no caption",
    }
    assert (built.report.records, built.report.faults) == (IMAGES, 2)
    with pytest.raises(CollectionError, match=r"mute\.jpg: it has no caption .*strict"):
        build(folder, tmp_path / "strict", strict=True)


def test_a_source_without_images_makes_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"no images.*--kind captions"):
        build_collection(
            [captions_in_memory(["a"])], tmp_path / "o", EMBEDDER, Options("x", Kind.PAIRS)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_makes_captions_without_looking_at_the_images(
    folder: Path, tmp_path: Path
) -> None:
    built = build_collection(detect([folder]), tmp_path / "out", EMBEDDER, Options(name="texts"))
    texts = {text for number in range(IMAGES) for text in captions_of(number)} | {"no picture"}
    assert built.manifest.captions == len(texts)
    assert built.report.faults == 0


@pytest.mark.parametrize("factory", ["IVF8,SQ8", "IVF8,PQ8x4", "OPQ8,IVF8,PQ8x4", "HNSW16", "Flat"])
def test_any_index_type_finds_images_and_passes_verification(
    folder: Path, tmp_path: Path, factory: str
) -> None:
    pairs = build(folder, tmp_path / "out", factory=factory)
    compressed = "PQ" in factory
    assert (pairs.manifest.faiss.k_factor is not None) == compressed
    assert ("search.npy" in pairs.manifest.files) == compressed
    assert ("search.ivfdata" in pairs.manifest.files) == ("IVF" in factory)
    assert pairs.texts(pairs.nearest(embed_by_hash([picture(5)], DIM), 1)[0]) == captions_of(5)
    verified = verify(tmp_path / "out", EMBEDDER.texts, least_recall=0.8)
    assert verified.least_cosine is not None
    assert verified.least_cosine > 0.99


@pytest.mark.parametrize("change", ["shorter", "falling", "floats", "other end"])
def test_offsets_that_do_not_fit_are_refused(directory: Path, tmp_path: Path, change: str) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    path = copy / FIRST_CAPTION_FILE
    first = np.load(path)
    if change == "shorter":
        first = first[:-1]
    elif change == "falling":
        first[5], first[6] = first[6], first[5]
    elif change == "floats":
        first = first.astype(float)
    else:
        first[-1] += 1
    np.save(path, first)
    stamp = stamp_file(path).model_dump()
    edit_manifest(copy, lambda manifest: manifest["files"].update({FIRST_CAPTION_FILE: stamp}))
    with pytest.raises(CollectionError, match=r"first_caption\.npy does not divide"):
        Collection.open(copy)


def test_caption_vectors_of_another_build_are_refused(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    path = copy / CAPTION_VECTORS_FILE
    np.save(path, np.load(path)[1:])
    stamp = stamp_file(path).model_dump()
    edit_manifest(copy, lambda manifest: manifest["files"].update({CAPTION_VECTORS_FILE: stamp}))
    with pytest.raises(CollectionError, match=r"captions\.npy holds float16 of shape"):
        Collection.open(copy)


def test_captions_out_of_step_fail_verification(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "copy")
    path = copy / CAPTION_VECTORS_FILE
    np.save(path, np.roll(np.load(path), 1, axis=0))
    stamp = stamp_file(path).model_dump()
    edit_manifest(copy, lambda manifest: manifest["files"].update({CAPTION_VECTORS_FILE: stamp}))
    Collection.open(copy)
    with pytest.raises(CollectionError, match=r"not in step: caption \d+"):
        verify(copy, EMBEDDER.texts)
    verify(copy, None)


def test_too_low_a_recall_fails_verification(directory: Path) -> None:
    with pytest.raises(CollectionError, match=r"recall@16 is 1\.000 on 256 queries, below 1\.1"):
        verify(directory, None, least_recall=1.1)
