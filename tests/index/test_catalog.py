"""Collections by name: chosen, swapped as one, and kept where the new one is bad."""

import gc
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.index.build import Options, build_collection
from app.index.catalog import Catalog, NamedPlace, ReloadError, UnknownCollectionError
from app.index.collection import Collection
from app.index.manifest import MANIFEST, TEXT_FILE, CollectionError, ModelStamp
from app.index.sources.detect import captions_in_memory
from tests.index.embedders import FakeEmbedder

MODEL = ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=8)
OTHER = ModelStamp(name="other", fingerprint="cd" * 32, embed_dim=8)


def build(out: Path, word: str, model: ModelStamp = MODEL) -> Path:
    captions = captions_in_memory(f"{word} {number}" for number in range(40))
    build_collection([captions], out, FakeEmbedder(model), Options(name=word))
    return out


@pytest.fixture
def directories(tmp_path: Path) -> Sequence[Path]:
    return [build(tmp_path / "one", "cat"), build(tmp_path / "two", "dog")]


@pytest.fixture
def catalog(directories: Sequence[Path]) -> Catalog:
    one, two = directories
    return Catalog.open([NamedPlace("cats", one), NamedPlace("dogs", two)])


def chosen(catalog: Catalog, name: str | None = None) -> Collection:
    collection = catalog.choose(name)[1]
    assert isinstance(collection, Collection)
    return collection


def first_caption(catalog: Catalog, name: str | None = None) -> str:
    return chosen(catalog, name).texts(np.zeros(1, np.int64))[0]


def test_the_first_is_the_default(catalog: Catalog) -> None:
    assert list(catalog.collections) == ["cats", "dogs"]
    assert catalog.choose()[0] == "cats"
    assert first_caption(catalog) == "cat 0"
    assert first_caption(catalog, "dogs") == "dog 0"


def test_one_alone_has_the_name_in_its_manifest(directories: Sequence[Path]) -> None:
    catalog = Catalog.open([NamedPlace(None, directories[0])])
    assert list(catalog.collections) == ["cat"]


def test_an_unknown_name_is_answered_with_those_that_there_are(catalog: Catalog) -> None:
    with pytest.raises(UnknownCollectionError, match="no collection 'fish'; there are: cats, dogs"):
        catalog.choose("fish")


def test_a_reload_serves_what_is_there_now(catalog: Catalog, directories: Sequence[Path]) -> None:
    before = chosen(catalog, "dogs")
    build(directories[1], "fox")
    assert first_caption(catalog, "dogs") == "dog 0"
    catalog.reload(MODEL)
    assert first_caption(catalog, "dogs") == "fox 0"
    assert list(catalog.collections) == ["cats", "dogs"]
    assert before.texts(np.array([39])) == ["dog 39"]
    assert len(before.nearest(before.embeddings(np.array([3])), 5)[0]) == 5


def damage(directory: Path) -> None:
    text = (directory / TEXT_FILE).read_bytes()
    (directory / TEXT_FILE).write_bytes(text.replace(b"dog", b"cow"))


def truncate(directory: Path) -> None:
    (directory / TEXT_FILE).write_bytes((directory / TEXT_FILE).read_bytes()[:-5])


def rebuild_for_another_model(directory: Path) -> None:
    build(directory, "dog", OTHER)


def remove(directory: Path) -> None:
    shutil.rmtree(directory)


def claim_another_dimension(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["model"]["embed_dim"] = 16
    (directory / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damage, "captions.txt is damaged"),
        (truncate, "captions.txt is damaged"),
        (rebuild_for_another_model, "was built with the model 'other'"),
        (remove, "not a caption collection"),
        (claim_another_dimension, "8 dimensions, the manifest says 16"),
    ],
)
def test_a_bad_collection_leaves_the_old_ones_serving(
    catalog: Catalog, directories: Sequence[Path], harm: object, why: str
) -> None:
    build(directories[0], "lynx")
    # A copy takes its place, as a collection that is written to while it serves is another matter.
    copy = shutil.copytree(directories[1], directories[1].with_name("copy"))
    harm(copy)  # type: ignore[operator]
    shutil.rmtree(directories[1])
    if copy.exists():
        copy.rename(directories[1])
    before = catalog.collections
    with pytest.raises(ReloadError, match=why) as caught:
        catalog.reload(MODEL)
    assert str(caught.value).startswith("dogs: ")
    assert str(directories[1].parent) not in str(caught.value)
    assert catalog.collections is before
    assert (first_caption(catalog), first_caption(catalog, "dogs")) == ("cat 0", "dog 0")


def test_a_model_of_another_collection_is_refused(catalog: Catalog) -> None:
    catalog.check_model(MODEL)
    with pytest.raises(CollectionError, match="'other'"):
        catalog.check_model(OTHER)


def test_reloading_leaks_no_files(catalog: Catalog) -> None:
    def open_files() -> int:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count(TEXT_FILE)
        return len(list(Path("/proc/self/fd").iterdir())) + maps

    if not Path("/proc/self/maps").exists():
        pytest.skip("needs Linux's /proc")
    catalog.reload(MODEL)
    before = open_files()
    for _ in range(10):
        catalog.reload(MODEL)
    assert open_files() <= before
