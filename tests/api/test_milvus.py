"""The service over a collection in Milvus: the same answers, and what it says while it is away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.client import Client
from app.engine import Engine as XmoreEngine
from app.index.collection import Collection
from app.index.milvus.load import LoadOptions, load_collection
from app.main import create_app
from app.settings import IndexAway, Settings
from tests.api.test_collections import PNG, classify, search
from tests.index.milvus.engine import PATIENT, Engine, Proxy, address, proxied, url
from tests.serving import serving, wait_for

HUGGING_FACE = "/v1/zero-shot-image-classification"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_index_dir: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("milvus") / "data")
    there = address(engine.port, "tiny")
    load_collection(Collection.open(tiny_index_dir), there, PATIENT, LoadOptions())
    yield engine
    engine.stop()


@pytest.fixture
def proxy(engine: Engine) -> Iterator[Proxy]:
    with proxied(engine.port) as proxy:
        yield proxy


def over(
    settings: Settings,
    index: str,
    away: IndexAway = IndexAway.REFUSE,
    start_timeout_s: float = 5.0,
) -> Settings:
    return settings.model_copy(
        update={
            "index": index,
            "index_away": away,
            "milvus_timeout_s": 0.5,
            "milvus_start_timeout_s": start_timeout_s,
        }
    )


@contextmanager
def served(
    settings: Settings, proxy: Proxy, away: IndexAway = IndexAway.REFUSE
) -> Iterator[TestClient]:
    with TestClient(create_app(over(settings, url(proxy.port, "tiny"), away))) as client:
        yield client


def value(client: TestClient, metric: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(metric)).split()[-1])


def zero_shot(client: TestClient, tiny_png: str) -> Any:
    body = {"inputs": tiny_png, "parameters": {"candidate_labels": ["cat", "dog"]}}
    return client.post(HUGGING_FACE, json=body)


def test_answers_are_those_of_the_directory(
    tiny_settings: Settings, proxy: Proxy, client: TestClient
) -> None:
    with served(tiny_settings, proxy) as other:
        expected, answer = classify(client).json(), classify(other).json()
        (result,), (wanted,) = answer["results"], expected["results"]
        assert [c["id"] for c in result["captions"]] == [c["id"] for c in wanted["captions"]]
        assert [c["text"] for c in result["captions"]] == [c["text"] for c in wanted["captions"]]
        for ours, theirs in zip(result["predictions"], wanted["predictions"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
        assert answer["index"] == "tiny-index"
        assert not answer["degraded"]
        texts = [
            [caption["text"] for caption in search(one, text="a red car", k=3)["captions"]]
            for one in (client, other)
        ]
        assert texts[0] == texts[1]
        (index,) = other.get("/v1/info").json()["indexes"]
        (on_disk,) = client.get("/v1/info").json()["indexes"]
        assert index == on_disk | {"faiss": None, "milvus": "FLAT"}
        assert other.get("/readyz").json() == {"status": "ready"}
        assert value(other, 'xmore_index_up{index="tiny-index"}') == 1


def test_requests_are_refused_while_it_is_away(
    tiny_settings: Settings, proxy: Proxy, png_base64: str
) -> None:
    with served(tiny_settings, proxy) as client:
        proxy.cut()
        found = {"text": "a cat"}
        for response in (
            classify(client),
            client.post("/v1/captions/search", data=found),
            zero_shot(client, png_base64),
            client.get("/readyz"),
        ):
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert int(response.headers["retry-after"]) >= 1
            assert "'tiny-index' does not answer" in response.json()["detail"]
            assert str(proxy.port) not in response.text
        # Who asks for no captions is answered, and the process itself is well.
        assert classify(client, captions=0).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert not client.get("/v1/info").json()["index"]["available"]
        assert value(client, 'xmore_index_up{index="tiny-index"}') == 0
        assert value(client, 'xmore_errors_total{kind="index_away"}') == 4
        proxy.mend()
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert classify(client).status_code == 200
        assert value(client, 'xmore_index_up{index="tiny-index"}') == 1


def test_plain_clip_is_answered_and_marked_where_that_is_wanted(
    tiny_settings: Settings, proxy: Proxy, png_base64: str
) -> None:
    with served(tiny_settings, proxy, IndexAway.PLAIN) as client:
        plain = classify(client, captions=0).json()
        assert not plain["degraded"]
        proxy.cut()
        answer = classify(client).json()
        assert answer["degraded"] is True
        assert answer["results"] == plain["results"]
        assert "'tiny-index' does not answer: this is plain CLIP" in answer["warnings"][-1]
        assert client.get("/readyz").json() == {"status": "degraded"}
        assert value(client, "xmore_degraded_total") == 1
        # What has no place for the mark is refused, and so is what plain CLIP cannot answer.
        assert zero_shot(client, png_base64).status_code == 503
        assert client.post("/v1/captions/search", data={"text": "a cat"}).status_code == 503
        proxy.mend()
        wait_for(lambda: client.get("/readyz").json() == {"status": "ready"})
        assert classify(client).json()["degraded"] is False


def test_the_client_sees_the_mark(tiny_settings: Settings, proxy: Proxy) -> None:
    settings = over(tiny_settings, url(proxy.port, "tiny"), IndexAway.PLAIN)
    with (
        serving(create_app(settings), settings) as http,
        Client(str(http.base_url)) as client,
    ):
        assert client.info().index.milvus == "FLAT"
        assert not client.classify(PNG, ["cat", "dog"]).degraded
        proxy.cut()
        answer = client.classify(PNG, ["cat", "dog"])
        assert answer.degraded
        assert "plain CLIP" in str(answer)
        assert client.ready()


def test_other_collections_go_on(
    tiny_settings: Settings, tiny_index_dir: Path, proxy: Proxy
) -> None:
    index = f"far={url(proxy.port, 'tiny')},near={tiny_index_dir}"
    with TestClient(create_app(over(tiny_settings, index))) as client:
        assert classify(client, index="far").json()["index"] == "far"
        proxy.cut()
        assert classify(client, index="far").status_code == 503
        assert classify(client, index="near").status_code == 200
        proxy.mend()
        assert client.post("/v1/index/reload").status_code == 200
        assert classify(client, index="far").status_code == 200


def test_a_reload_without_the_engine_leaves_all_as_it_was(
    tiny_settings: Settings, proxy: Proxy
) -> None:
    settings = over(tiny_settings, url(proxy.port, "tiny"), start_timeout_s=0.6)
    with TestClient(create_app(settings)) as client:
        proxy.cut()
        reloaded = client.post("/v1/index/reload")
        assert reloaded.status_code == 409
        assert "tiny-index: no Milvus answers" in reloaded.json()["detail"]
        assert str(proxy.port) not in reloaded.text


def test_a_start_without_the_engine_fails_in_words(tiny_settings: Settings, proxy: Proxy) -> None:
    proxy.cut()
    settings = over(tiny_settings, url(proxy.port, "tiny"), IndexAway.PLAIN, 0.6)
    with pytest.raises(Exception, match=r"no Milvus answers within 0.6 seconds\. Is it running"):
        XmoreEngine.load(settings)
