"""What is asked again, how often, and after how long."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client import (
    AnswerTimeoutError,
    AsyncClient,
    Client,
    ConnectionFailedError,
    InvalidRequestError,
    UnavailableError,
    UnexpectedAnswerError,
)
from app.client.retry import Retry, retry_after_s
from tests.client.answers import CLASSIFICATION, INFO, problem

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)

Step = httpx.Response | Exception


class Script:
    """Plays a server that gives one answer after another; either client's calls, and the waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, asynchronous: bool) -> None:
        self.waits: list[float] = []
        self.asked = 0
        self._asynchronous = asynchronous
        self._steps: Iterator[Step] = iter(())

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        monkeypatch.setattr("time.sleep", self.waits.append)
        monkeypatch.setattr(anyio, "sleep", sleep)

    def _answer(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step

    def play(self, method: str, arguments: Sequence[Any], *steps: Step, **options: Any) -> Any:
        self._steps = iter(steps)
        transport = httpx.MockTransport(self._answer)
        if not self._asynchronous:
            with Client("http://test", transport=transport, **options) as client:
                return getattr(client, method)(*arguments)

        async def play() -> Any:
            async with AsyncClient("http://test", transport=transport, **options) as client:
                return await getattr(client, method)(*arguments)

        return asyncio.run(play())

    def classify(self, *steps: Step, **options: Any) -> Any:
        return self.play("classify", (b"image", ["cat", "dog"]), *steps, **options)

    def info(self, *steps: Step, **options: Any) -> Any:
        return self.play("info", (), *steps, **options)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(monkeypatch, request.param)


def good() -> httpx.Response:
    return httpx.Response(200, json=CLASSIFICATION)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_for_now_is_asked_again_when_the_server_says(script: Script, status: int) -> None:
    answer = script.classify(problem(status, {"Retry-After": "7"}), good())
    assert answer.results[0].best.label == "cat"
    (wait,) = script.waits
    assert 7 <= wait <= 7.5


def test_a_server_that_does_not_recover_is_given_up(script: Script) -> None:
    steps = [problem(429, {"Retry-After": "1"}) for _ in range(4)]
    with pytest.raises(UnavailableError) as caught:
        script.classify(*steps)
    assert script.asked == 4
    assert caught.value.status == 429
    assert caught.value.retry_after_s == 1


def test_retries_may_be_switched_off(script: Script) -> None:
    with pytest.raises(UnavailableError):
        script.classify(problem(503, {"Retry-After": "1"}), retries=0)
    assert (script.asked, script.waits) == (1, [])


def test_a_wait_that_is_too_long_is_refused_at_once(script: Script) -> None:
    with pytest.raises(UnavailableError):
        script.classify(problem(503, {"Retry-After": "3600"}))
    assert (script.asked, script.waits) == (1, [])


def test_without_a_word_from_the_server_pauses_grow_by_chance(script: Script) -> None:
    script.classify(problem(503), problem(503), problem(503), good())
    assert len(script.waits) == 3
    assert all(0 <= wait <= most for wait, most in zip(script.waits, (0.5, 1, 2), strict=True))


@pytest.mark.parametrize("status", [400, 401, 413, 415, 422, 500])
def test_any_other_refusal_is_not_asked_again(script: Script, status: int) -> None:
    with pytest.raises(Exception, match=f"{status} "):
        script.classify(problem(status, {"Retry-After": "1"}))
    assert (script.asked, script.waits) == (1, [])


def test_a_connection_that_was_not_made_is_tried_again(script: Script) -> None:
    assert len(script.classify(httpx.ConnectError("refused"), httpx.ConnectTimeout(""), good()))
    with pytest.raises(ConnectionFailedError, match="No server answers at http://test"):
        script.classify(*[httpx.ConnectError("refused")] * 4)


@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("server disconnected")]
)
def test_only_cheap_questions_are_repeated_after_a_connection_broke_off(
    script: Script, error: Exception
) -> None:
    assert script.info(error, httpx.Response(200, json=INFO)).version == "1.0"
    asked = script.asked
    with pytest.raises(ConnectionFailedError, match="broke off"):
        script.classify(error, good())
    assert script.asked == asked + 1


@pytest.mark.parametrize("ask", [Script.info, Script.classify])
def test_after_a_timeout_nothing_is_repeated(script: Script, ask: Callable[..., Any]) -> None:
    with pytest.raises(AnswerTimeoutError, match="did not answer in time"):
        ask(script, httpx.ReadTimeout("slow"))
    assert script.asked == 1


def test_an_answer_of_another_server_is_told_as_such(script: Script) -> None:
    with pytest.raises(UnexpectedAnswerError, match="a proxy"):
        script.info(httpx.Response(502, text="<h1>Bad Gateway</h1>"))
    with pytest.raises(UnexpectedAnswerError, match=r"leads to https://login\.test"):
        script.info(httpx.Response(302, headers={"Location": "https://login.test"}))
    with pytest.raises(UnexpectedAnswerError, match="the whole: Invalid JSON"):
        script.info(httpx.Response(200, text="<html>"))
    with pytest.raises(UnexpectedAnswerError, match="version: Field required"):
        script.info(httpx.Response(200, json={}))


def test_a_newer_servers_further_fields_do_no_harm(script: Script) -> None:
    answer = script.info(httpx.Response(200, json=INFO | {"more": [1, 2]}))
    assert answer.limits.max_images == 16


def test_a_problem_carries_all_its_fields(script: Script) -> None:
    response = problem(422, {"X-Request-ID": "abc"}, errors=[{"field": "labels", "detail": "few"}])
    with pytest.raises(InvalidRequestError) as caught:
        script.classify(response)
    error = caught.value
    assert (error.status, error.title, error.detail) == (422, "A title", "What is wrong.")
    assert [(entry.field, entry.detail) for entry in error.errors] == [("labels", "few")]
    assert (error.type, error.request_id) == ("about:blank", "abc")
    assert str(error) == "422 A title: What is wrong."


def test_ready_asks_once(script: Script) -> None:
    assert script.play("ready", (), httpx.Response(200, json={"status": "ready"})) is True
    assert script.play("ready", (), problem(503, {"Retry-After": "1"})) is False
    assert script.play("ready", (), httpx.ConnectError("refused")) is False
    with pytest.raises(UnexpectedAnswerError):
        script.play("ready", (), httpx.Response(404))
    assert script.waits == []


@given(st.integers(0, 10**6))
def test_retry_after_is_read_as_seconds_or_as_a_date(seconds: int) -> None:
    date = datetime.fromtimestamp(NOW.timestamp() + seconds, UTC)
    for value in (str(seconds), f" {seconds} ", date.strftime("%a, %d %b %Y %H:%M:%S GMT")):
        assert retry_after_s(httpx.Headers({"Retry-After": value}), NOW) == seconds


def test_a_date_that_has_passed_means_now() -> None:
    headers = httpx.Headers({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
    assert retry_after_s(headers, NOW) == 0


@given(
    st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20)).filter(lambda x: ":" not in x)
)
def test_a_header_that_says_nothing_is_none(value: str) -> None:
    said = retry_after_s(httpx.Headers({"Retry-After": value}), NOW)
    assert said is None or said >= 0


@given(
    attempt=st.integers(1, 20),
    retries=st.integers(0, 20),
    max_wait_s=st.floats(0, 100),
    header=st.none() | st.integers(0, 200).map(str),
)
def test_waits_are_bounded(
    attempt: int, retries: int, max_wait_s: float, header: str | None
) -> None:
    response = httpx.Response(429, headers={} if header is None else {"Retry-After": header})
    wait = Retry(retries, max_wait_s).after_response(attempt, response)
    if attempt > retries:
        assert wait is None
    if wait is not None:
        assert wait <= max_wait_s + 0.5
        assert header is None or wait >= float(header)
