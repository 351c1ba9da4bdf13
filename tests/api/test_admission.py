"""What comes in is bounded in number, bytes and time, and what has left is let go."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event, Semaphore
from typing import Any

import httpx
import pytest

from app.clip.model import ClipModel
from app.engine import Classification, Engine
from app.main import create_app
from app.settings import Settings
from tests.photos import encode, gradient
from tests.serving import connect, form, head, read_answer, serving, wait_for

PNG = encode(gradient())
FORM = form(PNG, "cat", "dog")
ROUTE = "/v1/classify"

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[Serve]:
    """Start a server whose settings differ as told."""
    with ExitStack() as stack:

        def start(**changes: Any) -> httpx.Client:
            settings = tiny_settings.model_copy(update=changes)
            app = create_app(settings, lambda _: tiny_engine)
            return stack.enter_context(serving(app, settings))

        yield start


class HeldModel:
    """An image tower that encodes only when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = Semaphore(0)
        self.go_on = Event()
        encode = ClipModel.encode_images

        def held(model: ClipModel, pixels: Any) -> Any:
            self.begun.release()
            assert self.go_on.wait(60)
            return encode(model, pixels)

        monkeypatch.setattr(ClipModel, "encode_images", held)


@contextmanager
def held_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldModel]:
    model = HeldModel(monkeypatch)
    try:
        yield model
    finally:
        model.go_on.set()


def ask(client: httpx.Client) -> httpx.Response:
    return client.post(ROUTE, files={"image": ("a.png", PNG)}, data={"labels": ["cat", "dog"]})


def gauge(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def wait_until_empty(client: httpx.Client) -> None:
    wait_for(lambda: gauge(client, "xmore_queue_depth") == 0)
    assert gauge(client, "xmore_queue_bytes") == 0


def test_past_the_queue_the_answer_is_429_at_once_and_the_accepted_are_answered(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve(max_queue=3)
    with held_model(monkeypatch) as model, ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(ask, client) for _ in range(3)]
        wait_for(lambda: gauge(client, "xmore_queue_depth") == 3)
        for _ in range(5):
            refused = ask(client)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/healthz").status_code == 200
        model.go_on.set()
        assert [answer.result().status_code for answer in accepted] == [200] * 3
    wait_until_empty(client)
    assert ask(client).status_code == 200


def test_the_bytes_of_all_requests_together_are_bounded(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve(max_queue_bytes=2 * len(FORM))
    with held_model(monkeypatch) as model, connect(client) as first, connect(client) as second:
        first.sendall(head(ROUTE, len(FORM)) + FORM)
        assert model.begun.acquire(timeout=60)
        large = len(FORM) + 1
        second.sendall(head(ROUTE, large))
        status, headers, _ = read_answer(second)
        assert status == 429
        assert headers["retry-after"] == "1"
        model.go_on.set()
        assert read_answer(first)[0] == 200
    wait_until_empty(client)


def test_bytes_that_were_not_declared_are_counted_as_they_come(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve(max_queue_bytes=2 * len(FORM))
    with held_model(monkeypatch) as model, connect(client) as first:
        first.sendall(head(ROUTE, len(FORM)) + FORM)
        assert model.begun.acquire(timeout=60)
        headers = {"content-type": "multipart/form-data; boundary=b"}
        endless = (b"x" * 1024 for _ in range(1000))
        assert client.post(ROUTE, content=endless, headers=headers).status_code == 429
        model.go_on.set()
        assert read_answer(first)[0] == 200


def test_a_request_that_is_alone_may_be_larger_than_the_bytes_of_the_queue(serve: Serve) -> None:
    assert ask(serve(max_queue_bytes=1)).status_code == 200


def test_an_answer_before_the_body_was_read_reaches_its_client(serve: Serve) -> None:
    client = serve()
    too_large = 10 * 2**20
    response = client.post(ROUTE, content=bytes(too_large))
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert ask(client).status_code == 200


def test_a_slow_body_is_given_up(serve: Serve) -> None:
    client = serve(body_timeout_s=1)
    with connect(client) as slow:
        slow.sendall(head(ROUTE, len(FORM)) + FORM[:50])
        status, headers, problem = read_answer(slow)
        assert status == 408
        assert headers["content-type"] == "application/problem+json"
        assert "1 seconds" in problem["detail"]
    wait_until_empty(client)
    assert ask(client).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /v1/classify HTTP/1.1\r\nHost: te"])
def test_a_head_that_does_not_come_is_given_up(serve: Serve, sent: bytes) -> None:
    client = serve(body_timeout_s=0.2)
    with connect(client) as slow:
        slow.sendall(sent)
        assert slow.recv(100) == b""


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_client_that_leaves_while_it_sends_leaves_nothing_behind(
    serve: Serve, share: float
) -> None:
    client = serve()
    with connect(client) as leaver:
        leaver.sendall(head(ROUTE, len(FORM)) + FORM[: int(share * len(FORM))])
        wait_for(lambda: gauge(client, "xmore_queue_depth") == 1)
        assert gauge(client, "xmore_queue_bytes") == len(FORM)
    wait_until_empty(client)
    wait_for(lambda: 'xmore_errors_total{kind="client_left"} 1.0' in client.get("/metrics").text)
    assert ask(client).status_code == 200


def test_a_client_that_leaves_while_it_waits_frees_its_place(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve(max_queue=1)
    with held_model(monkeypatch) as model:
        leaver = connect(client)
        leaver.sendall(head(ROUTE, len(FORM)) + FORM)
        assert model.begun.acquire(timeout=60)
        leaver.shutdown(socket.SHUT_RDWR)
        leaver.close()
        wait_until_empty(client)
        model.go_on.set()
        assert ask(client).status_code == 200


def test_a_request_past_its_time_is_answered_with_503(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve(request_timeout_s=0.1)
    with held_model(monkeypatch) as model:
        response = ask(client)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert "longer than 0.1 seconds" in response.json()["detail"]
        wait_for(lambda: 'xmore_errors_total{kind="timeout"} 1.0' in client.get("/metrics").text)
        model.go_on.set()
    wait_until_empty(client)


def test_a_stuck_worker_fails_the_health_check_which_says_why(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve(request_timeout_s=0.1, stuck_after_s=0.01)
    with held_model(monkeypatch) as model:
        assert ask(client).status_code == 503
        response = client.get("/healthz")
        assert response.status_code == 503
        assert "busy with one computation" in response.json()["detail"]
        model.go_on.set()
        wait_for(lambda: client.get("/healthz").status_code == 200)


def test_a_failure_of_the_model_is_told_to_its_own_request_alone(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    client = serve()
    answer = Engine.answer

    def fail_once(*_: Any) -> Classification:
        monkeypatch.setattr(Engine, "answer", answer)
        raise RuntimeError("secret words")

    monkeypatch.setattr(Engine, "answer", fail_once)
    failed = ask(client)
    assert failed.status_code == 500
    assert failed.headers["content-type"] == "application/problem+json"
    assert failed.headers["x-request-id"] in failed.json()["detail"]
    assert "secret" not in failed.text
    assert ask(client).status_code == 200
    assert client.get("/healthz").status_code == 200
