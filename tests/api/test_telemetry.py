"""Each request leaves one log line and a few counts, and nothing of what was in it."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app import logs
from app.api.telemetry import error_kind
from app.engine import Engine
from app.main import create_app
from app.settings import LogLevel, Settings
from tests.photos import encode, gradient

PNG = encode(gradient())

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def fresh(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[TestClient]:
    """An application whose counts begin at nothing."""
    with TestClient(create_app(tiny_settings, lambda _: tiny_engine)) as client:
        yield client


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What our own code has written on stderr since the last call, as `xmore serve` would."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def read() -> list[dict[str, Any]]:
        told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line for line in told if line["logger"] in ("app.api.telemetry", "test")]

    yield read
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def ask(client: TestClient, **headers: str) -> str:
    response = client.post(
        "/v1/classify",
        files={"image": ("secret-name.png", PNG)},
        data={"labels": ["secret-label", "dog"]},
        headers=headers,
    )
    assert response.status_code == 200
    return str(response.headers["x-request-id"])


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("given", ["abc-123", "A.b_c", "x" * 128])
def test_a_sane_request_id_is_kept(client: TestClient, given: str) -> None:
    assert ask(client, **{"X-Request-ID": given}) == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", '"quoted"', "<script>", "é"])
def test_another_is_replaced(client: TestClient, given: str) -> None:
    made = client.get("/healthz", headers=[(b"X-Request-ID", given.encode())]).headers[
        "x-request-id"
    ]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_every_answer_has_an_id_errors_too(client: TestClient) -> None:
    made = {client.get(path).headers["x-request-id"] for path in ("/healthz", "/nowhere", "/docs")}
    assert len(made) == 3


def test_a_request_is_one_line_of_json(client: TestClient, lines: Lines) -> None:
    logs.configure(LogLevel.INFO)
    ask(client, **{"X-Request-ID": "my-id"})
    (line,) = lines()
    assert line["message"] == "request"
    assert line["level"] == "INFO"
    assert line["method"] == "POST"
    assert line["route"] == "/v1/classify"
    assert line["status"] == 200
    assert line["ms"] > 0
    assert line["request_id"] == "my-id"
    assert line["bytes_in"] > len(PNG)
    assert line["bytes_out"] > 100
    assert line["timestamp"]
    assert "secret" not in str(line)


def test_an_unexpected_error_is_logged_with_its_id_and_without_its_words(
    monkeypatch: pytest.MonkeyPatch, client: TestClient, lines: Lines
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(Engine, "answer", fail)
    logs.configure(LogLevel.INFO)
    response = client.post(
        "/v1/classify", files={"image": ("a.png", PNG)}, data={"labels": "secret"}
    )
    assert response.status_code == 500
    line, request = lines()
    assert line["level"] == "ERROR"
    assert request["status"] == 500
    assert line["request_id"] == response.headers["x-request-id"]
    assert "RuntimeError" in line["exc_info"]
    assert "in fail" in line["exc_info"]
    assert "secret" not in line["exc_info"].replace('raise RuntimeError("secret words")', "")


def test_debugging_adds_the_words_of_errors(lines: Lines) -> None:
    logs.configure(LogLevel.DEBUG)
    logging.getLogger("test").error("failed", exc_info=RuntimeError("the words"))
    (line,) = lines()
    assert line["exc_info"] == "RuntimeError: the words"


def test_lines_below_the_level_are_left_out(client: TestClient, lines: Lines) -> None:
    logs.configure(LogLevel.WARNING)
    ask(client)
    assert lines() == []


def test_requests_are_counted_by_route_and_status(fresh: TestClient) -> None:
    ask(fresh)
    ask(fresh)
    fresh.post("/v1/classify", files={"image": ("a.png", b"no image"), "labels": (None, "cat")})
    fresh.get("/random/1")
    fresh.get("/random/2")
    found = samples(fresh)
    assert found["xmore_requests_total", "/v1/classify", "200"] == 2
    assert found["xmore_requests_total", "/v1/classify", "415"] == 1
    assert found["xmore_requests_total", "unmatched", "404"] == 2
    assert found["xmore_errors_total", "unsupported"] == 1
    assert found["xmore_errors_total", "malformed"] == 2
    assert found["xmore_request_seconds_count", "/v1/classify"] == 3


def test_stages_batches_and_the_label_cache_are_measured(
    fresh: TestClient, tiny_engine: Engine
) -> None:
    before = samples(fresh)
    ask(fresh)
    ask(fresh)
    found = samples(fresh)
    for stage in ("decode", "encode", "retrieve", "fuse"):
        assert found["xmore_stage_seconds_count", stage] == 2
        assert found["xmore_stage_seconds_sum", stage] > 0
    assert found["xmore_batch_size_count", "image"] == 2
    assert found["xmore_batch_size_bucket", "1.0", "image"] == 2
    assert found["xmore_waiting", "image"] == found["xmore_waiting", "text"] == 0
    hits, misses = (("xmore_label_cache_hits_total",), ("xmore_label_cache_misses_total",))
    assert found[hits] - before[hits] >= 2
    assert found[hits] + found[misses] - before[hits] - before[misses] == 4
    assert found[misses] == tiny_engine.labels.misses
    assert found["xmore_queue_depth",] == 0
    assert found["xmore_queue_bytes",] == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (307, None),
        (400, "malformed"),
        (401, "unauthorized"),
        (404, "malformed"),
        (408, "slow_sender"),
        (413, "too_large"),
        (415, "unsupported"),
        (422, "invalid"),
        (429, "overload"),
        (499, "client_left"),
        (500, "internal"),
        (503, "unavailable"),
    ],
)
def test_every_error_has_a_kind(status: int, kind: str | None) -> None:
    assert error_kind(status) == kind
