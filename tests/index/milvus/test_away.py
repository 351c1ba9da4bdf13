"""An engine that is down, slow, or lost and found again: asked over a real socket."""

import gc
import threading
from time import monotonic

import numpy as np
import pytest

from app.index.collection import Collection
from app.index.manifest import CollectionAwayError, CollectionError
from app.index.milvus.client import MilvusClient
from app.index.milvus.collection import MilvusCollection
from app.index.milvus.load import LoadOptions, load_collection
from app.index.place import MilvusOptions
from tests.index.embedders import embed_by_hash
from tests.index.milvus import collections
from tests.index.milvus.collections import DIM, MODEL
from tests.index.milvus.engine import PATIENT, QUICK, Engine, address, proxied
from tests.serving import free_port, wait_for

QUERY = embed_by_hash([b"query"], DIM)
WORDS = "user:open sesame"


def seconds_to_refuse(collection: MilvusCollection) -> float:
    start = monotonic()
    with pytest.raises(CollectionAwayError, match="'captions' does not answer"):
        collection.search(QUERY, 5)
    return monotonic() - start


def answers(collection: MilvusCollection) -> int:
    """How many captions it finds; none while it is away, and a busy machine may be slow once."""
    try:
        return len(collection.search(QUERY, 5)[0])
    except CollectionAwayError:
        return 0


@pytest.fixture(scope="module")
def loaded(engine: Engine, captions: Collection) -> str:
    load_collection(captions, address(engine.port, "shared"), PATIENT, LoadOptions())
    return "shared"


def test_an_engine_that_is_down_at_the_start_is_told_of() -> None:
    start = monotonic()
    there = address(free_port(), "photos")
    options = MilvusOptions(token=WORDS, timeout_s=0.3, start_timeout_s=0.6)
    with pytest.raises(CollectionError, match="no Milvus answers within 0") as caught:
        MilvusCollection.open(there, options)
    assert monotonic() - start < 5
    assert str(caught.value).startswith(str(there))
    assert "sesame" not in str(caught.value)


def test_an_engine_that_comes_late_is_waited_for(
    engine: Engine, loaded: str, captions: Collection
) -> None:
    with proxied(engine.port) as proxy:
        proxy.cut()
        threading.Timer(0.7, proxy.mend).start()
        options = MilvusOptions(timeout_s=0.4, start_timeout_s=10)
        collection = MilvusCollection.open(address(proxy.port, loaded), options)
        assert len(collection) == len(captions)


def test_a_lost_connection_is_found_again(
    engine: Engine, loaded: str, caplog: pytest.LogCaptureFixture
) -> None:
    with proxied(engine.port) as proxy:
        collection = MilvusCollection.open(address(proxy.port, loaded), QUICK)
        before = collection.search(QUERY, 5)[0].ids.tolist()
        proxy.cut()
        # The first to notice waits for the time limit and the retries, the others not at all.
        assert seconds_to_refuse(collection) < 5
        assert collection.away is not None
        assert seconds_to_refuse(collection) < 0.05
        proxy.mend()
        wait_for(lambda: collection.away is None)
        assert collection.search(QUERY, 5)[0].ids.tolist() == before
    told = [record.getMessage() for record in caplog.records if "captions" in record.getMessage()]
    assert "does not answer: " in told[0]
    assert "answers again, after" in told[-1]
    assert len(told) == 2


def test_an_engine_that_is_slow_is_away_until_it_is_quick_again(
    engine: Engine, loaded: str
) -> None:
    with proxied(engine.port) as proxy:
        collection = MilvusCollection.open(address(proxy.port, loaded), QUICK)
        proxy.delay_s = 1.5
        assert seconds_to_refuse(collection) < 2
        assert "DEADLINE_EXCEEDED" in str(collection.away)
        proxy.delay_s = 0
        wait_for(lambda: collection.away is None)
        assert len(collection.search(QUERY, 5)[0]) == 5


def test_many_requests_at_the_moment_of_a_loss_do_not_wait_for_each_other(
    engine: Engine, loaded: str
) -> None:
    with proxied(engine.port) as proxy:
        collection = MilvusCollection.open(address(proxy.port, loaded), QUICK)
        proxy.cut()
        waits: list[float] = []
        threads = [
            threading.Thread(target=lambda: waits.append(seconds_to_refuse(collection)))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(waits) == 12
        assert max(waits) < 5


def test_an_engine_that_was_restarted_serves_again(
    captions: Collection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = Engine(tmp_path_factory.mktemp("restarted") / "data")
    try:
        there = address(own.port, "restarted")
        load_collection(captions, there, PATIENT, LoadOptions())
        collection = MilvusCollection.open(there, QUICK)
        own.stop()
        assert seconds_to_refuse(collection) < 5
        own.start()
        # It holds no collection ready after a start: the watch has it loaded again.
        wait_for(lambda: answers(collection) == 5)
        assert collection.away is None
    finally:
        own.stop()


def test_another_collection_under_the_name_is_not_served(
    engine: Engine, captions: Collection, pairs: Collection, name: str
) -> None:
    there = address(engine.port, name)
    load_collection(captions, there, PATIENT, LoadOptions())
    collection = MilvusCollection.open(there, QUICK)
    load_collection(pairs, there, PATIENT, LoadOptions(restart=True))
    with pytest.raises(CollectionAwayError):
        collection.search(QUERY, 5)
    wait_for(lambda: "another collection is there" in str(collection.away))


def test_a_collection_that_nobody_holds_is_closed(
    engine: Engine, loaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = MilvusClient.close

    def noted(client: MilvusClient) -> None:
        closed.append(client.address.collection)
        close(client)

    monkeypatch.setattr(MilvusClient, "close", noted)
    threads = set(threading.enumerate())
    with proxied(engine.port) as proxy:
        collection = MilvusCollection.open(address(proxy.port, loaded), QUICK)
        proxy.cut()
        seconds_to_refuse(collection)
        del collection
        gc.collect()
    assert loaded in closed
    watches = [t for t in threading.enumerate() if t.name == "milvus-watch" and t not in threads]
    for watch in watches:
        watch.join(10)
        assert not watch.is_alive()


def test_a_query_of_the_wrong_size_takes_nothing_down(engine: Engine, loaded: str) -> None:
    collection = MilvusCollection.open(address(engine.port, loaded), QUICK)
    with pytest.raises(CollectionAwayError):
        collection.search(np.ones((1, DIM + 1), np.float32), 5)
    wait_for(lambda: collection.away is None)
    collection.check_model(MODEL)


def test_the_embedded_engine_serves_one_process_at_a_time(engine: Engine) -> None:
    file = str(engine.directory)
    there = collections.embedded(file, "photos")
    with pytest.raises(CollectionError, match="another process has it open"):
        MilvusCollection.open(there, QUICK)
