"""Whatever happens to a collection's files: it is refused in words, or answers as before."""

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.manifest import (
    EXACT_FILE,
    FAISS_FILE,
    LISTS_FILE,
    MANIFEST,
    OFFSETS_FILE,
    TEXT_FILE,
    CollectionError,
    ModelStamp,
    stamp_file,
)
from app.index.sources.detect import captions_in_memory
from tests.index.embedders import FakeEmbedder
from tests.index.test_collection import edit_manifest

MODEL = ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=16)
FILES = (FAISS_FILE, LISTS_FILE, EXACT_FILE, TEXT_FILE, OFFSETS_FILE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with every file that captions can have."""
    out = tmp_path_factory.mktemp("collections") / "whole"
    captions = captions_in_memory(f"caption {number}" for number in range(300))
    options = Options(name="whole", factory="IVF4,PQ4x4")
    manifest = build_collection([captions], out, FakeEmbedder(MODEL), options).manifest
    assert set(manifest.files) == set(FILES)
    return out


def answers(directory: Path) -> list[str]:
    collection = Collection.open(directory)
    collection.check_model(MODEL)
    collection.check_query()
    ids = collection.nearest(np.eye(16, dtype=np.float32)[:1], 8)[0]
    return collection.texts(ids)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([MANIFEST, *FILES]), st.data())
def test_a_mutated_file_is_refused_in_words_or_changes_nothing(
    whole: Path, name: str, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        copy = shutil.copytree(whole, Path(folder) / "copy")
        content = bytearray((copy / name).read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        if how == "flip":
            content[position] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del content[position:]
        elif how == "insert":
            content[position:position] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            content[position : position + 64] = bytes(len(content[position : position + 64]))
        (copy / name).write_bytes(content)
        # Any other exception fails the test. A manifest may differ and still be right: its name.
        if name == MANIFEST or bytes(content) == (whole / name).read_bytes():
            with suppress(CollectionError):
                assert len(answers(copy)) == 8
        else:
            with pytest.raises(CollectionError, match=name):
                answers(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"something else entirely", b"\x93NUMPY\x01\x00"])
def test_a_foreign_file_with_a_right_checksum_is_refused_in_words(
    whole: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / name).write_bytes(content)
    stamp = stamp_file(copy / name).model_dump()
    edit_manifest(copy, lambda manifest: manifest["files"].update({name: stamp}))
    with pytest.raises(CollectionError) as caught:
        answers(copy)
    assert str(copy) in str(caught.value)
    assert name in str(caught.value)


def test_an_index_without_its_lists_is_refused(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    edit_manifest(copy, lambda manifest: manifest["files"].pop(LISTS_FILE))
    (copy / LISTS_FILE).unlink()
    with pytest.raises(CollectionError, match=LISTS_FILE):
        answers(copy)


def test_without_checksums_sizes_are_compared(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    text = (copy / TEXT_FILE).read_bytes()
    (copy / TEXT_FILE).write_bytes(text.replace(b"caption 7", b"caption x"))
    assert Collection.open(copy, verify=False).texts([7]) == ["caption x"]  # type: ignore[arg-type]
    (copy / TEXT_FILE).write_bytes(text + b"more\n")
    with pytest.raises(CollectionError, match="damaged"):
        Collection.open(copy, verify=False)


def test_a_collection_may_be_moved(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "elsewhere")
    assert answers(copy) == answers(whole)
