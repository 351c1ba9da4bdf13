"""API keys open `/v1`, never show up anywhere, and cost a stranger nothing of ours; CORS is off."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.photos import encode, gradient

KEYS = ["first-key-0123456789", "second-key-0123456789"]
PNG = encode(gradient())
ORIGIN = "https://example.org"


@contextmanager
def application(settings: Settings, engine: Engine, **changes: Any) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update=changes), lambda _: engine)
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[TestClient]:
    keys = [SecretStr(key) for key in KEYS]
    with application(tiny_settings, tiny_engine, api_keys=keys) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def classify(client: TestClient, headers: dict[str, str]) -> Any:
    files = {"image": ("a.png", PNG)}
    return client.post("/v1/classify", files=files, data={"labels": "cat"}, headers=headers)


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens(guarded: TestClient, key: str) -> None:
    assert classify(guarded, bearer(key)).status_code == 200
    assert guarded.get("/v1/info", headers={"authorization": f"bearer {key}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("wrong-key-0123456789"),
        bearer(KEYS[0][:-1]),
        bearer(f"{KEYS[0]}x"),
        bearer(f"{KEYS[0]} {KEYS[1]}"),
        {"Authorization": KEYS[0]},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"X-API-Key": KEYS[0]},
    ],
)
def test_without_a_key_it_is_401(guarded: TestClient, headers: Any) -> None:
    response = classify(guarded, headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert "Authorization: Bearer" in response.json()["detail"]


def test_without_a_key_nothing_under_v1_is_told_not_even_what_there_is(
    guarded: TestClient,
) -> None:
    for path in ("/v1/info", "/v1/no-such-route", "/v1/"):
        assert guarded.get(path).status_code == 401


def test_probes_documents_and_metrics_are_open(guarded: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/metrics"):
        assert guarded.get(path).status_code == 200


def test_metrics_may_need_a_key(tiny_settings: Settings, tiny_engine: Engine) -> None:
    keys = [SecretStr(key) for key in KEYS]
    with application(tiny_settings, tiny_engine, api_keys=keys, metrics_need_key=True) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer(KEYS[1])).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_stranger_is_refused_before_the_body_is_read(guarded: TestClient) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "headers": [(b"content-length", b"0")],
    }
    assert guarded.portal is not None
    guarded.portal.call(guarded.app, scope, receive, send)
    assert sent[0]["status"] == 401


def test_no_key_is_logged(guarded: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    classify(guarded, bearer(KEYS[0]))
    classify(guarded, bearer("wrong-key-0123456789"))
    told = "".join(str(vars(record)) for record in caplog.records)
    assert "'status': 401" in told
    for key in (*KEYS, "wrong-key"):
        assert key not in told


def test_the_document_names_the_scheme(guarded: TestClient) -> None:
    document = guarded.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == path.startswith("/v1/"), path


def test_without_keys_the_document_does_not_speak_of_them(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    assert "HTTPBearer" not in text
    assert '"security"' not in text


def test_cors_is_off_unless_set(client: TestClient) -> None:
    response = client.get("/healthz", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_cors_lets_the_named_origin_in_even_for_errors(
    tiny_settings: Settings, tiny_engine: Engine
) -> None:
    keys = [SecretStr(key) for key in KEYS]
    with application(tiny_settings, tiny_engine, api_keys=keys, cors_origins=[ORIGIN]) as client:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert client.options("/v1/classify", headers=asked).status_code == 200
        response = classify(client, {"Origin": ORIGIN})
        assert response.status_code == 401
        assert response.headers["access-control-allow-origin"] == ORIGIN
        other = client.get("/healthz", headers={"Origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers
