"""Loading a collection into Milvus: the same answers, once only, and going on after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from app.index.collection import Collection
from app.index.manifest import CollectionError
from app.index.milvus.client import MilvusClient
from app.index.milvus.collection import MilvusCollection, search_parameters
from app.index.milvus.load import LoadOptions, choose_index, load_collection
from app.index.milvus.manifest import MANIFEST, MilvusIndexStamp, MilvusIndexType
from app.index.opening import OpenCollection
from app.index.place import MilvusOptions
from app.xmore.retrieval import FloatArray, retrieve
from tests.index.embedders import embed_by_hash
from tests.index.milvus import collections
from tests.index.milvus.collections import DIM, IMAGES, MODEL, picture
from tests.index.milvus.engine import PATIENT, Engine, address, proxied

QUERIES = embed_by_hash([f"query {number}".encode() for number in range(8)], DIM)


def same_answers(one: OpenCollection, other: OpenCollection, queries: FloatArray, k: int) -> None:
    for a, b in zip(retrieve(queries, one, k), retrieve(queries, other, k), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.texts == b.texts
        np.testing.assert_allclose(a.embeddings, b.embeddings, atol=1e-6)
        np.testing.assert_allclose(a.similarities, b.similarities, atol=1e-6)


@pytest.mark.parametrize("index", [None, *MilvusIndexType])
def test_captions_are_found_as_on_disk(
    engine: Engine, captions: Collection, name: str, index: MilvusIndexType | None
) -> None:
    there = address(engine.port, name)
    manifest = load_collection(captions, there, PATIENT, LoadOptions(index))
    assert manifest.fingerprint == captions.manifest.fingerprint
    loaded = MilvusCollection.open(there, PATIENT)
    assert len(loaded) == len(captions)
    assert loaded.away is None
    loaded.check_model(MODEL)
    loaded.check_query()
    if index is not MilvusIndexType.IVF_SQ8:
        same_answers(captions, loaded, QUERIES, 16)
    assert len(retrieve(QUERIES[:1], loaded, 16)[0]) == 16


def test_images_are_found_with_all_their_captions(
    engine: Engine, pairs: Collection, name: str
) -> None:
    there = address(engine.port, name)
    load_collection(pairs, there, PATIENT, LoadOptions(batch_rows=7))
    loaded = MilvusCollection.open(there, PATIENT)
    assert loaded.manifest.images == IMAGES
    assert len(loaded) == len(pairs)
    pictures = embed_by_hash([picture(number) for number in range(IMAGES)], DIM)
    for number in (0, 2, 59):
        (one,) = loaded.search(pictures[[number]], 1)
        (other,) = pairs.search(pictures[[number]], 1)
        assert one.texts == other.texts
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)
    same_answers(pairs, loaded, pictures[:5], 8)
    # More than there are: every distinct caption, and no end of asking.
    same_answers(pairs, loaded, pictures[:1], 1000)


def test_no_hit_where_none_is_asked_for(engine: Engine, captions: Collection, name: str) -> None:
    there = address(engine.port, name)
    load_collection(captions, there, PATIENT, LoadOptions())
    loaded = MilvusCollection.open(there, PATIENT)
    (hits,) = loaded.search(QUERIES[:1], 0)
    assert len(hits) == 0
    assert hits.embeddings.shape == (0, DIM)
    assert loaded.search(QUERIES[:0], 5) == []


def test_a_second_copy_does_nothing(engine: Engine, captions: Collection, name: str) -> None:
    there = address(engine.port, name)
    load_collection(captions, there, PATIENT, LoadOptions())
    said: list[str] = []
    load_collection(captions, there, PATIENT, LoadOptions(), say=said.append)
    assert said == [f"{there} holds this collection already"]


_LOADING = """
import os, signal, sys
from pathlib import Path
from threading import Timer
from app.index.collection import Collection
from app.index.milvus.load import LoadOptions, load_collection
from app.index.place import MilvusOptions, parse_place

def told(rows):
    if rows >= 150:
        os.kill(os.getpid(), signal.SIGKILL)

place = parse_place(sys.argv[2])
source = Collection.open(Path(sys.argv[1]))
load_collection(source, place, MilvusOptions(), LoadOptions(batch_rows=10), progress=told)
"""


def test_a_killed_copy_goes_on_where_it_stopped(captions: Collection, tmp_path: Path) -> None:
    source = tmp_path / "source"
    made = collections.captions(source)
    file = str(tmp_path / "engine.db")
    there = collections.embedded(file, "killed")
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", _LOADING, str(source), str(there)],
        env=os.environ,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with pytest.raises(CollectionError, match="half loaded: 100 of 200 rows"):
        MilvusCollection.open(there, PATIENT)
    told: list[int] = []
    load_collection(made, there, PATIENT, LoadOptions(batch_rows=10), progress=told.append)
    assert told[0] == 100
    assert told[-1] == 200
    same_answers(captions, MilvusCollection.open(there, PATIENT), QUERIES, 16)


def test_a_batch_that_got_no_answer_is_written_again(
    engine: Engine, captions: Collection, name: str
) -> None:
    with proxied(engine.port) as proxy:
        there = address(proxy.port, name)

        def told(rows: int) -> None:
            if rows == 100:
                proxy.cut()
                Timer(0.5, proxy.mend).start()

        options = MilvusOptions(timeout_s=2, start_timeout_s=20)
        load_collection(captions, there, options, LoadOptions(batch_rows=50), progress=told)
        same_answers(captions, MilvusCollection.open(there, PATIENT), QUERIES, 16)


def test_half_of_another_collection_is_not_gone_on_with(
    engine: Engine, captions: Collection, pairs: Collection, name: str
) -> None:
    there = address(engine.port, name)

    class Stop(Exception):  # noqa: N818 - no error
        pass

    def stop(rows: int) -> None:
        if rows >= 50:
            raise Stop

    with pytest.raises(Stop):
        load_collection(captions, there, PATIENT, LoadOptions(batch_rows=10), progress=stop)
    with pytest.raises(CollectionError, match="the half of another collection is there"):
        load_collection(pairs, there, PATIENT, LoadOptions())
    load_collection(pairs, there, PATIENT, LoadOptions(restart=True))
    with pytest.raises(CollectionError, match="another collection is there"):
        load_collection(captions, there, PATIENT, LoadOptions())
    assert MilvusCollection.open(there, PATIENT).manifest.name == pairs.manifest.name


def test_what_xmore_did_not_load_is_left_alone(
    engine: Engine, captions: Collection, name: str
) -> None:
    there = address(engine.port, name)
    client = MilvusClient.connect(there, PATIENT)
    client.create("vector", DIM, ["text"], {"owner": "somebody"})
    for options in (LoadOptions(), LoadOptions(restart=True)):
        with pytest.raises(CollectionError, match="xmore did not load it"):
            load_collection(captions, there, PATIENT, options)
    with pytest.raises(CollectionError, match="xmore did not load it"):
        MilvusCollection.open(there, PATIENT)
    assert client.exists()
    client.close()


def test_what_is_not_as_the_manifest_says_is_refused(
    engine: Engine, captions: Collection, name: str
) -> None:
    there = address(engine.port, name)
    load_collection(captions, there, PATIENT, LoadOptions())
    client = MilvusClient.connect(there, PATIENT)
    good = client.properties()[MANIFEST]
    for was, now, why in (
        (f'"embed_dim":{DIM}', '"embed_dim":48', "have 32 dimensions, its manifest says 48"),
        ('"captions":200', '"captions":300', "200 rows, its manifest says 300"),
        ('"format_version":1', '"format_version":9', "its manifest: format_version"),
    ):
        assert was in good
        client.set_properties({MANIFEST: good.replace(was, now)})
        with pytest.raises(CollectionError, match=why) as caught:
            MilvusCollection.open(there, PATIENT)
        assert "127.0.0.1" not in caught.value.reason
        assert str(caught.value).startswith(str(there))
    client.set_properties({MANIFEST: good})
    opened = MilvusCollection.open(there, PATIENT)
    with pytest.raises(CollectionError, match="was built with the model 'fake'"):
        opened.check_model(MODEL.model_copy(update={"fingerprint": "cd" * 32}))
    client.close()


def test_a_collection_that_is_not_there_is_named(engine: Engine, name: str) -> None:
    with pytest.raises(CollectionError, match="there is no such collection"):
        MilvusCollection.open(address(engine.port, name), PATIENT)


def test_captions_that_do_not_fit_a_row_are_named(
    engine: Engine, name: str, tmp_path: Path
) -> None:
    source = collections.captions(tmp_path / "long", 3, "x" * 70_000)
    with pytest.raises(CollectionError, match="caption 0 takes 70005 bytes"):
        load_collection(source, address(engine.port, name), PATIENT, LoadOptions())


def test_an_index_is_chosen_by_engine_and_size() -> None:
    assert choose_index(10**6, embedded=True).type == "FLAT"
    assert choose_index(1000, embedded=False).type == "FLAT"
    assert choose_index(10**6, embedded=False).type == "HNSW"
    lists = choose_index(10**6, embedded=False, wanted=MilvusIndexType.IVF_SQ8)
    assert lists.build == {"nlist": 4000}
    assert search_parameters(lists, 128, 10**6) == {"nprobe": 500}
    assert search_parameters(lists, 10_000, 20_000) == {"nprobe": 4000}
    assert search_parameters(choose_index(10**6, embedded=False), 1000, 10**6) == {"ef": 2000}
    assert search_parameters(MilvusIndexStamp(type=MilvusIndexType.FLAT), 5, 10) == {}
