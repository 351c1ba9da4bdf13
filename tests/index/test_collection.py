"""A collection is built whole, opened only if it is intact, and found in as exact search finds."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.making import Step
from app.index.manifest import (
    FAISS_FILE,
    MANIFEST,
    OFFSETS_FILE,
    REPORT,
    TEXT_FILE,
    CollectionError,
    Manifest,
    ModelStamp,
    read_manifest,
    stamp_file,
)
from app.index.search import choose_factory
from app.index.sources.detect import captions_in_memory
from app.index.store import write_store
from app.xmore.retrieval import FloatArray, IdArray
from tests.index.embedders import EmbedTexts, FakeEmbedder

DIM = 32
SMALL = 300
LARGE = 12_000
DATA_FILES = (FAISS_FILE, OFFSETS_FILE, TEXT_FILE)
INVERTED = "IVF128,SQ8"

MODEL = ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=DIM)


def clustered(count: int, seed: int) -> FloatArray:
    """Unit vectors around a hundred centres, as captions lie around topics."""
    centres = np.random.default_rng(0).standard_normal((100, DIM))
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(len(centres), size=count)] + 0.4 * rng.standard_normal((count, DIM))
    out: FloatArray = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return out


VECTORS = clustered(LARGE, 1)
QUERIES = clustered(50, 2)


def captions(count: int) -> list[str]:
    return [f"caption {i}" for i in range(count)]


def embed(texts: Sequence[str]) -> FloatArray:
    """The vector of `caption i` is row i."""
    return VECTORS[[int(text.split()[-1]) for text in texts]]


def build(
    out: Path,
    count: int = SMALL,
    embed_texts: EmbedTexts = embed,
    factory: str | None = None,
) -> Manifest:
    return build_from(captions(count), out, embed_texts, factory)


def build_from(
    texts: Iterable[str],
    out: Path,
    embed_texts: EmbedTexts = embed,
    factory: str | None = None,
) -> Manifest:
    embedder = FakeEmbedder(MODEL, embed_texts)
    options = Options(name="numbers", factory=factory)
    return build_collection([captions_in_memory(texts)], out, embedder, options).manifest


def exact(count: int, k: int) -> IdArray:
    return np.argsort(-QUERIES @ VECTORS[:count].T, axis=1, kind="stable")[:, :k]


def recall(found: IdArray, wanted: IdArray) -> float:
    hits = [len(set(f) & set(w)) for f, w in zip(found.tolist(), wanted.tolist(), strict=True)]
    return sum(hits) / wanted.size


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collections") / "small"
    build(out)
    return out


@pytest.fixture(scope="module")
def large_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collections") / "large"
    build(out, LARGE, factory=INVERTED)
    return out


@pytest.fixture(scope="module")
def small(small_dir: Path) -> Collection:
    return Collection.open(small_dir)


@pytest.fixture(scope="module")
def large(large_dir: Path) -> Collection:
    return Collection.open(large_dir)


@pytest.fixture
def copy(small_dir: Path, tmp_path: Path) -> Path:
    """A small collection, free to be damaged."""
    return shutil.copytree(small_dir, tmp_path / "copy")


def edit_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def restamp(directory: Path, file: str) -> None:
    """Give a changed file the checksum it has now."""
    stamp = stamp_file(directory / file).model_dump()
    edit_manifest(directory, lambda manifest: manifest["files"].update({file: stamp}))


def refused(directory: Path) -> str:
    with pytest.raises(CollectionError) as caught:
        Collection.open(directory)
    return str(caught.value)


def test_a_built_collection_opens_with_what_was_put_in(small: Collection) -> None:
    assert len(small) == SMALL
    assert small.manifest.name == "numbers"
    assert small.manifest.kind == "captions"
    assert small.manifest.captions == SMALL
    assert small.manifest.model == MODEL
    assert set(small.manifest.files) == set(DATA_FILES)
    assert small.texts(np.array([299, 0, 7])) == ["caption 299", "caption 0", "caption 7"]


def test_a_small_collection_is_searched_exactly(small: Collection) -> None:
    assert small.manifest.faiss.factory == "SQfp16"
    found = small.nearest(QUERIES, 16)
    assert found.shape == (len(QUERIES), 16)
    assert found.dtype == np.int64
    similarities = np.take_along_axis(QUERIES @ VECTORS[:SMALL].T, found, axis=1)
    best = np.take_along_axis(QUERIES @ VECTORS[:SMALL].T, exact(SMALL, 16), axis=1)
    np.testing.assert_allclose(similarities, best, atol=2e-3)


def test_a_large_collection_is_searched_nearly_exactly(large: Collection) -> None:
    assert large.manifest.faiss.factory.startswith("IVF")
    assert recall(large.nearest(QUERIES, 16), exact(LARGE, 16)) >= 0.9


def test_nprobe_goes_with_the_query_and_not_into_the_shared_index(
    large: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    index: Any = large.index._index
    before = index.nprobe
    lists = index.nlist
    nprobe = large.manifest.faiss.nprobe
    assert nprobe is not None
    assert before < nprobe < lists

    passed = []
    ask = index.search

    def watching(*args: Any, **options: Any) -> Any:
        passed.append(options["params"].nprobe)
        return ask(*args, **options)

    monkeypatch.setattr(index, "search", watching)
    large.nearest(QUERIES, 16)
    large.nearest(QUERIES[:1], LARGE)
    assert passed == [nprobe, lists]
    assert index.nprobe == before


@pytest.mark.parametrize("k", [200, 3_000, LARGE, 2 * LARGE])
def test_a_deep_search_is_not_cut_short_by_the_lists_visited(large: Collection, k: int) -> None:
    found = large.nearest(QUERIES[:3], k)
    assert found.shape == (3, min(k, LARGE))
    assert (found >= 0).all()
    for row in found:
        assert len(set(row.tolist())) == len(row)


def test_asking_for_more_than_there_is_returns_everything(small: Collection) -> None:
    found = small.nearest(QUERIES[:2], 10 * SMALL)
    assert [sorted(row) for row in found.tolist()] == [list(range(SMALL))] * 2


def test_asking_for_nothing_returns_nothing(small: Collection) -> None:
    assert small.nearest(QUERIES[:2], 0).shape == (2, 0)


@pytest.mark.parametrize(("which", "count"), [("small", SMALL), ("large", LARGE)])
def test_embeddings_are_unit_norm_and_near_what_was_stored(
    request: pytest.FixtureRequest, which: str, count: int
) -> None:
    collection: Collection = request.getfixturevalue(which)
    ids = np.array([count - 1, 0, 5, 5, count // 2])
    stored = collection.embeddings(ids)
    assert stored.shape == (5, DIM)
    assert stored.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)
    assert (stored * VECTORS[ids]).sum(axis=1).min() > 0.999


def test_no_ids_have_no_embeddings_and_no_texts(small: Collection, large: Collection) -> None:
    for collection in (small, large):
        assert collection.embeddings(np.empty(0, np.int64)).shape == (0, DIM)
        assert collection.texts(np.empty(0, np.int64)) == []


def test_an_id_that_is_no_row_has_no_text(small: Collection) -> None:
    for row in (-1, SMALL):
        with pytest.raises(IndexError):
            small.texts(np.array([row]))


@pytest.mark.parametrize("file", DATA_FILES)
@pytest.mark.parametrize("position", [0, -1])
def test_a_damaged_file_is_named(copy: Path, file: str, position: int) -> None:
    data = bytearray((copy / file).read_bytes())
    data[position] ^= 1
    (copy / file).write_bytes(data)
    assert refused(copy).startswith(f"{copy}: {file} is damaged")


@pytest.mark.parametrize("file", DATA_FILES)
def test_a_truncated_file_is_named(copy: Path, file: str) -> None:
    data = (copy / file).read_bytes()
    (copy / file).write_bytes(data[:-1])
    assert f"{copy}: {file} is damaged" in refused(copy)


@pytest.mark.parametrize("file", DATA_FILES)
def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    assert f"{file} is missing" in refused(copy)


def test_a_directory_without_manifest_is_no_collection(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    said = refused(copy)
    assert MANIFEST in said
    assert "xmore index build" in said


def test_a_missing_directory_is_no_collection(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere")


def nest(manifest: dict[str, Any], **values: Any) -> None:
    manifest["model"].update(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.update(format_version=1), "format_version"),
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: nest(m, colour="red"), "model.colour"),
        (lambda m: nest(m, fingerprint="short"), "model.fingerprint"),
        (lambda m: nest(m, embed_dim=0), "model.embed_dim"),
        (lambda m: m.update(kind="songs"), "kind"),
        (lambda m: m.pop("captions"), "captions"),
        (lambda m: m.update(captions=0), "captions"),
        (lambda m: m.update(name=""), "name"),
        (lambda m: m["faiss"].update(nprobe=0), "faiss.nprobe"),
    ],
)
def test_what_is_wrong_in_the_manifest_is_named(
    copy: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    edit_manifest(copy, change)
    said = refused(copy)
    assert said.startswith(f"{copy}: {MANIFEST}: {named}: ")
    assert "Build the collection again" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_manifest_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    assert f"{copy}: {MANIFEST}: " in refused(copy)


def test_captions_are_not_taken_for_pairs(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest.update(kind="pairs"))
    assert "no checksum for captions.npy, first_caption.npy" in refused(copy)


@pytest.mark.parametrize("name", ["../outside.txt", "sub/inside.txt", "..", "{absolute}"])
def test_a_file_name_with_a_path_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / "sub").mkdir()
    for path in (tmp_path / "outside.txt", copy / "sub" / "inside.txt"):
        path.write_bytes((copy / TEXT_FILE).read_bytes())
    name = name.format(absolute=tmp_path / "outside.txt")
    edit_manifest(copy, lambda m: m["files"].update({name: m["files"][TEXT_FILE]}))
    assert "Input should be" in refused(copy)


def test_a_manifest_with_another_count_is_refused(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest.update(captions=SMALL + 1))
    said = refused(copy)
    assert f"{SMALL + 1} captions and {SMALL + 1} vectors by the manifest" in said
    assert f"{SMALL} captions in the store" in said
    assert f"{SMALL} vectors in the index" in said


def test_a_store_of_another_build_is_refused(copy: Path) -> None:
    write_store(captions(SMALL - 1), copy)
    restamp(copy, TEXT_FILE)
    restamp(copy, OFFSETS_FILE)
    assert f"{SMALL - 1} captions in the store" in refused(copy)


def test_an_index_of_another_dimension_is_refused(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: nest(manifest, embed_dim=DIM + 1))
    said = refused(copy)
    assert f"{DIM} dimensions" in said
    assert str(DIM + 1) in said


def test_another_models_fingerprint_is_refused_with_a_way_out(small: Collection) -> None:
    small.check_model(MODEL)
    small.check_model(MODEL.model_copy(update={"name": "the same under another name"}))
    other = ModelStamp(name="other", fingerprint="cd" * 32, embed_dim=DIM)
    with pytest.raises(CollectionError) as caught:
        small.check_model(other)
    said = str(caught.value)
    for part in ("'fake'", "abababababab", "'other'", "cdcdcdcdcdcd"):
        assert part in said
    for remedy in ("XMORE_MODEL", "xmore index build", "XMORE_INDEX"):
        assert remedy in said


def failing(texts: Sequence[str]) -> FloatArray:
    raise RuntimeError(f"the power went at {texts[0]}")


def test_a_failing_build_leaves_the_old_collection_alone(copy: Path) -> None:
    before = contents(copy)
    with pytest.raises(RuntimeError, match="the power went"):
        build(copy, 10, failing)
    assert contents(copy) == before
    assert len(Collection.open(copy)) == SMALL


def test_a_failing_build_leaves_nothing_at_the_target(tmp_path: Path) -> None:
    out = tmp_path / "new"
    with pytest.raises(RuntimeError, match="the power went"):
        build(out, 10, failing)
    assert not out.exists()
    build(out, 10)
    assert len(Collection.open(out)) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_collection_is_replaced_by_a_newer_one(copy: Path) -> None:
    (copy / "left over").write_text("from before")
    manifest = build(copy, 20)
    assert Collection.open(copy).manifest == manifest
    assert set(contents(copy)) == {MANIFEST, REPORT, *DATA_FILES}
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CollectionError, match=re.escape(str(tmp_path))):
        build(tmp_path, 10)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    build(out, 10)
    assert len(Collection.open(out)) == 10


def test_directories_above_are_made(tmp_path: Path) -> None:
    build(tmp_path / "a" / "b", 10)
    assert len(Collection.open(tmp_path / "a" / "b")) == 10


@pytest.mark.parametrize("nothing", [[], ["", "  ", "\n"], ["...", "!"]])
def test_no_captions_make_no_collection(tmp_path: Path, nothing: list[str]) -> None:
    with pytest.raises(CollectionError, match="no captions"):
        build_from(nothing, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_repeats_and_blanks_are_dropped_and_counted(tmp_path: Path) -> None:
    given = ["A cat.", "", "a  cat", "a dog\n", " \t ", "A DOG!", "a\nfox", "a cat on a mat"]
    embedder = FakeEmbedder(MODEL, lambda texts: VECTORS[: len(texts)])
    built = build_collection(
        [captions_in_memory(given)], tmp_path / "out", embedder, Options(name="x")
    )
    kept = Collection.open(tmp_path / "out").texts(np.arange(4))
    assert kept == ["A cat.", "a dog", "a fox", "a cat on a mat"]
    assert (built.report.records, built.report.repeats, built.report.blanks) == (8, 2, 2)
    assert built.report.faults == 0


def test_a_build_drops_repeats_before_it_embeds(tmp_path: Path) -> None:
    embedded: list[str] = []
    steps: list[Step] = []

    def watch(texts: Sequence[str]) -> FloatArray:
        embedded.extend(texts)
        return embed(texts)

    given = captions_in_memory([*captions(600), *captions(600), " ", "Caption 3."])
    embedder = FakeEmbedder(MODEL, watch)
    options = Options(name="x", shard_records=500)
    manifest = build_collection([given], tmp_path / "out", embedder, options, steps.append).manifest
    assert embedded == captions(600)
    assert sum(step.captions for step in steps) == manifest.captions == 600
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] == 1
    collection = Collection.open(tmp_path / "out")
    assert collection.texts(np.arange(600)) == captions(600)


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_building_twice_gives_the_same_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, count: int
) -> None:
    first: Path = request.getfixturevalue("small_dir" if count == SMALL else "large_dir")
    again = build(tmp_path / "again", count, factory=INVERTED if count == LARGE else None)
    assert again == read_manifest(first)
    assert again.fingerprint == read_manifest(first).fingerprint


def test_other_captions_have_another_fingerprint(small: Collection, tmp_path: Path) -> None:
    assert build(tmp_path / "out", SMALL - 1).fingerprint != small.manifest.fingerprint


@pytest.mark.parametrize(
    ("count", "factory"),
    [
        (1, "SQfp16"),
        (29_999, "SQfp16"),
        (30_000, "IVF128,SQ8"),
        (1_000_000, "IVF1024,SQ8"),
        (10_000_000, "IVF4096,SQ8"),
        (100_000_000, "OPQ64,IVF8192,PQ64"),
    ],
)
def test_the_faiss_type_follows_the_size(count: int, factory: str) -> None:
    assert choose_factory(count, 512) == factory


@pytest.mark.parametrize("dim", [1, 7, 16, 384, 500, 768])
def test_the_compressed_type_divides_any_dimension(dim: int) -> None:
    faiss.index_factory(dim, choose_factory(10**8, dim), faiss.METRIC_INNER_PRODUCT)


def test_one_caption_is_a_collection(tmp_path: Path) -> None:
    build(tmp_path / "one", 1)
    collection = Collection.open(tmp_path / "one")
    assert collection.nearest(QUERIES[:2], 16).tolist() == [[0], [0]]


def test_a_directory_with_a_foreign_manifest_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "extension"
    out.mkdir()
    (out / MANIFEST).write_text('{"manifest_version": 3}')
    (out / "code.js").write_text("kept")
    with pytest.raises(CollectionError, match="not a caption collection"):
        build(out, 10)
    assert (out / "code.js").read_text() == "kept"


def test_a_collection_of_an_older_version_is_replaced(copy: Path) -> None:
    edit_manifest(copy, lambda manifest: manifest.update(format_version=1))
    build(copy, 10)
    assert len(Collection.open(copy)) == 10


def test_every_file_needs_a_checksum(copy: Path) -> None:
    edit_manifest(copy, lambda m: m["files"].pop(FAISS_FILE))
    assert f"no checksum for {FAISS_FILE}" in refused(copy)


def test_a_manifest_that_is_not_utf8_is_refused_in_words(copy: Path) -> None:
    (copy / MANIFEST).write_bytes(b'{"name": "\xff"}')
    assert "not UTF-8" in refused(copy)
