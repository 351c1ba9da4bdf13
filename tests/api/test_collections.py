"""Searching captions, several collections by name, and swapping them while requests go on."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.batching import Worker
from app.clip.model import ClipModel
from app.embedder import ClipEmbedder
from app.engine import Engine
from app.index.build import Options, build_collection
from app.index.manifest import TEXT_FILE, Kind
from app.index.sources.detect import captions_in_memory, detect
from app.main import create_app
from app.metrics import Metrics
from app.service import Service
from app.settings import Settings
from app.signals import reload_on_hangup
from tests.photos import encode, gradient
from tests.serving import serving

PNG = encode(gradient())
CLIENTS = 16


def build(out: Path, word: str, model: ClipModel) -> None:
    captions = captions_in_memory(f"{word} number {number}" for number in range(60))
    build_collection([captions], out, ClipEmbedder(model, 10**6), Options(name=word))


def build_pairs(out: Path, model: ClipModel) -> None:
    pictures = out.with_name("pictures")
    pictures.mkdir()
    for number in range(20):
        turned = gradient().rotate(18 * number)
        (pictures / f"{number:02d}.png").write_bytes(encode(turned))
        (pictures / f"{number:02d}.txt").write_text(f"turned by {18 * number}\nturn {number}\n")
    options = Options(name="pairs", kind=Kind.PAIRS)
    build_collection(detect([pictures]), out, ClipEmbedder(model, 10**6), options)


@pytest.fixture
def two(tmp_path: Path, tiny_settings: Settings, tiny_model: ClipModel) -> Settings:
    build(tmp_path / "one", "cat", tiny_model)
    build_pairs(tmp_path / "two", tiny_model)
    index = f"cats={tmp_path / 'one'},turned={tmp_path / 'two'}"
    return tiny_settings.model_copy(update={"index": index})


@pytest.fixture
def several(two: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(two)) as client:
        yield client


def search(client: TestClient, **data: Any) -> Any:
    response = client.post("/v1/captions/search", data=data)
    assert response.status_code == 200, response.text
    return response.json()


def classify(client: TestClient | httpx.Client, **data: Any) -> Any:
    fields = {"labels": ["cat", "dog"]} | data
    return client.post("/v1/classify", files=[("image", ("a.png", PNG))], data=fields)


def test_a_text_finds_the_caption_that_says_the_same(client: TestClient) -> None:
    answer = search(client, text=" a tabby cat on a table ", k=3)
    assert (answer["model"], answer["index"]) == ("tiny", "tiny-index")
    assert len(answer["captions"]) == 3
    best = answer["captions"][0]
    assert best["text"] == "a tabby cat on a table"
    assert best["similarity"] == pytest.approx(1, abs=2e-3)


def test_an_image_finds_the_captions_that_classification_uses(client: TestClient) -> None:
    response = client.post("/v1/captions/search", files=[("image", ("a.png", PNG))])
    assert response.status_code == 200
    assert response.json()["captions"] == classify(client).json()["results"][0]["captions"]


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        ({}, 415, "The content type is missing"),
        ({"k": 3}, 422, "either an image file or `text`"),
        ({"text": "  "}, 422, "text: is blank"),
        ({"text": "x" * 41}, 422, "41 characters, at most 40"),
        ({"text": "a cat", "k": 0}, 422, "k: "),
        ({"text": "a cat", "k": 1001}, 422, "k: "),
        ({"text": "a cat", "index": "fish"}, 422, "no collection 'fish'; there are: tiny-index"),
    ],
)
def test_a_search_that_cannot_be_answered_says_why(
    client: TestClient, data: dict[str, Any], status: int, said: str
) -> None:
    response = client.post("/v1/captions/search", data=data)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert said in response.json()["detail"]


def test_both_image_and_text_are_too_much(client: TestClient) -> None:
    files = [("image", ("a.png", PNG))]
    response = client.post("/v1/captions/search", files=files, data={"text": "a"})
    assert response.status_code == 422


def test_a_file_that_is_no_image_is_refused(client: TestClient) -> None:
    response = client.post("/v1/captions/search", files=[("image", ("a.png", b"no"))])
    assert response.status_code == 415


def test_a_request_chooses_its_collection(several: TestClient) -> None:
    default = classify(several).json()
    assert default["index"] == "cats"
    assert all("cat number" in c["text"] for c in default["results"][0]["captions"])
    chosen = classify(several, index="turned").json()
    assert chosen["index"] == "turned"
    assert all("turn" in c["text"] for c in chosen["results"][0]["captions"])
    refused = classify(several, index="fish")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "index"


def test_info_lists_all_collections(several: TestClient) -> None:
    info = several.get("/v1/info").json()
    assert [(i["name"], i["kind"], i["images"]) for i in info["indexes"]] == [
        ("cats", "captions", None),
        ("turned", "pairs", 20),
    ]
    assert info["index"] == info["indexes"][0]


def test_an_image_of_a_pair_finds_its_own_captions(several: TestClient) -> None:
    response = several.post(
        "/v1/captions/search",
        files=[("image", ("a.png", encode(gradient().rotate(0))))],
        data={"index": "turned", "k": 40},
    )
    assert {"turned by 0", "turn 0"} <= {c["text"] for c in response.json()["captions"]}


def test_a_reload_serves_the_new_collection(
    several: TestClient, tmp_path: Path, tiny_model: ClipModel
) -> None:
    build(tmp_path / "one", "dog", tiny_model)
    assert "cat number" in search(several, text="x")["captions"][0]["text"]
    answer = several.post("/v1/index/reload")
    assert answer.status_code == 200
    assert [index["name"] for index in answer.json()["indexes"]] == ["cats", "turned"]
    assert answer.json()["indexes"] == several.get("/v1/info").json()["indexes"]
    assert "dog number" in search(several, text="x")["captions"][0]["text"]


def test_a_bad_collection_is_refused_and_the_old_one_serves(
    several: TestClient, tmp_path: Path, tiny_model: ClipModel
) -> None:
    build(tmp_path / "one", "dog", tiny_model)
    (tmp_path / "one" / TEXT_FILE).write_bytes(b"damaged")
    answer = several.post("/v1/index/reload")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert "cats: captions.txt is damaged" in detail
    assert "go on serving" in detail
    assert str(tmp_path) not in answer.text
    assert "cat number" in search(several, text="x")["captions"][0]["text"]


def test_swapping_under_load_fails_no_request_and_mixes_no_answer(
    two: Settings, tmp_path: Path, tiny_model: ClipModel
) -> None:
    with serving(create_app(two), two) as client:
        swap_under_load(client, tmp_path, tiny_model)


def swap_under_load(several: httpx.Client, tmp_path: Path, tiny_model: ClipModel) -> None:
    words = ["cat", "dog", "fox"]
    for word in words:
        build(tmp_path / word, word, tiny_model)
    swaps = 12

    def swap() -> list[int]:
        statuses = []
        for number in range(swaps):
            fresh = shutil.copytree(tmp_path / words[number % 3], tmp_path / "fresh")
            (tmp_path / "one").rename(tmp_path / "gone")
            fresh.rename(tmp_path / "one")
            shutil.rmtree(tmp_path / "gone")
            statuses.append(several.post("/v1/index/reload").status_code)
        return statuses

    def ask(_: int) -> list[str]:
        seen = []
        while not swapping.done():
            answer = classify(several, captions=32)
            assert answer.status_code == 200, answer.text
            texts = [c["text"] for c in answer.json()["results"][0]["captions"]]
            assert len(texts) == 32
            (word,) = {text.split()[0] for text in texts}
            seen.append(word)
        return seen

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        swapping = pool.submit(swap)
        answers = list(pool.map(ask, range(CLIENTS)))
        assert swapping.result() == [200] * swaps
    assert {word for seen in answers for word in seen} <= set(words)
    assert sum(map(len, answers)) >= CLIENTS


def test_a_hangup_reloads(
    two: Settings, tmp_path: Path, tiny_model: ClipModel, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(Engine.load(two), two, Metrics(), Worker("inference"))

    def wait_for(logged: str) -> None:
        for _ in range(3000):
            if logged in caplog.text:
                return
            time.sleep(0.01)
        pytest.fail(f"never logged: {logged}")

    async def hang_up(logged: str) -> None:
        with reload_on_hangup(service):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.to_thread(wait_for, logged)

    first = service.engine.catalog.choose()[1]
    build(tmp_path / "one", "dog", tiny_model)
    asyncio.run(hang_up("were reloaded: cats, turned"))
    second = service.engine.catalog.choose()[1]
    assert second.manifest.name == "dog" != first.manifest.name
    shutil.rmtree(tmp_path / "one")
    asyncio.run(hang_up("were not reloaded. cats: not a caption collection"))
    assert service.engine.catalog.choose()[1] is second
    service.close()
