"""The service answers as the engine does, many at once, and knows whether it is alive."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from threading import Event, Semaphore
from typing import Any

import numpy as np
import pytest

from app.engine import BadImageError, Classification, Engine, ImageFile, Question
from app.metrics import Metrics
from app.service import Service, TooSlowError
from app.settings import Settings
from tests.photos import encode, gradient

QUESTION = Question(labels=["cat", "dog", "car"])
GOOD = ImageFile("good.png", encode(gradient()))
BAD = ImageFile("bad.png", b"not an image")


def make_service(engine: Engine, **settings: Any) -> Service:
    return Service(engine, Settings(**settings), Metrics())


@pytest.fixture
def service(tiny_engine: Engine) -> Iterator[Service]:
    service = make_service(tiny_engine)
    yield service
    service.close()


def photo(number: int) -> ImageFile:
    """Photos that differ in content and size."""
    turned = gradient(40 + number, 30).rotate(17 * number, expand=True)
    return ImageFile(f"{number}.png", encode(turned))


def assert_same(found: Classification, expected: Classification) -> None:
    assert len(found.results) == len(expected.results)
    for ours, theirs in zip(found.results, expected.results, strict=True):
        assert ours.filename == theirs.filename
        assert {caption.id for caption in ours.captions} == {c.id for c in theirs.captions}
        probabilities = {p.label: p.probability for p in theirs.predictions}
        assert {p.label for p in ours.predictions} == set(probabilities)
        for p in ours.predictions:
            assert p.probability == pytest.approx(probabilities[p.label], abs=1e-4)
        assert ours.text.weight == pytest.approx(theirs.text.weight, abs=1e-4)


def test_the_answer_is_the_engines(service: Service, tiny_engine: Engine) -> None:
    files = [photo(0), GOOD, photo(5)]
    assert_same(
        asyncio.run(service.classify(files, QUESTION)), tiny_engine.classify(files, QUESTION)
    )


def test_a_bad_image_is_named_by_its_position(service: Service) -> None:
    with pytest.raises(BadImageError, match=r"^bad\.png: ") as caught:
        asyncio.run(service.classify([GOOD, BAD, GOOD], QUESTION))
    assert caught.value.position == 1
    assert caught.value.filename == "bad.png"


def test_a_bad_image_fails_only_its_own_request(service: Service, tiny_engine: Engine) -> None:
    async def ask() -> Sequence[Classification | BaseException]:
        return await asyncio.gather(
            service.classify([GOOD], QUESTION),
            service.classify([GOOD, BAD], QUESTION),
            service.classify([photo(3)], QUESTION),
            return_exceptions=True,
        )

    first, second, third = asyncio.run(ask())
    assert isinstance(first, Classification)
    assert isinstance(second, BadImageError)
    assert isinstance(third, Classification)
    assert_same(first, tiny_engine.classify([GOOD], QUESTION))
    assert_same(third, tiny_engine.classify([photo(3)], QUESTION))


def test_twenty_requests_at_once_are_all_answered_rightly(
    service: Service, tiny_engine: Engine
) -> None:
    requests = [
        (
            [photo(number + i) for i in range(1 + number % 3)],
            Question(labels=["cat", "dog", f"label {number}"], captions=number % 5),
        )
        for number in range(20)
    ]

    async def ask() -> list[Classification]:
        return await asyncio.gather(
            *(service.classify(files, question) for files, question in requests)
        )

    for found, (files, question) in zip(asyncio.run(ask()), requests, strict=True):
        assert_same(found, tiny_engine.classify(files, question))


def test_the_event_loop_is_free_while_the_model_works(service: Service) -> None:
    async def ask() -> bool:
        working, done = Event(), Event()

        def work() -> None:
            working.set()
            done.wait(10)

        stuck = service._worker.submit(work)
        answer = asyncio.create_task(service.classify([GOOD], QUESTION))
        await asyncio.to_thread(working.wait, 10)
        await asyncio.sleep(0.05)
        waited = not answer.done()
        done.set()
        assert len((await answer).results) == 1
        stuck.result()
        return waited

    assert asyncio.run(ask())


def test_it_works_until_it_is_closed(tiny_engine: Engine) -> None:
    service = make_service(tiny_engine)
    assert service.fault() is None
    assert service.close()
    assert service.fault() == "The inference worker has ended."
    assert service.close()


def test_a_stuck_worker_is_told_and_forgotten_once_it_goes_on(tiny_engine: Engine) -> None:
    service = make_service(tiny_engine, stuck_after_s=1e-6)
    working, done = Event(), Event()

    def work() -> None:
        working.set()
        done.wait(10)

    stuck = service._worker.submit(work)
    assert working.wait(10)
    assert "busy with one computation" in str(service.fault())
    done.set()
    stuck.result()
    assert service._worker.submit(lambda: 1).result() == 1
    assert service.close()


def test_a_request_that_takes_too_long_is_given_up(tiny_engine: Engine) -> None:
    service = make_service(tiny_engine, request_timeout_s=0.05)
    done = Event()
    stuck = service._worker.submit(lambda: done.wait(10))
    with pytest.raises(TooSlowError, match=r"longer than 0\.05 seconds"):
        asyncio.run(service.classify([GOOD], QUESTION))
    done.set()
    assert stuck.result()
    assert service.close()


def test_work_that_nobody_waits_for_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, tiny_engine: Engine
) -> None:
    answered: list[Sequence[str]] = []
    answer = Engine.answer

    def remember(engine: Engine, images: Any, question: Question, *rest: Any) -> Classification:
        answered.append(question.labels)
        return answer(engine, images, question, *rest)

    monkeypatch.setattr(Engine, "answer", remember)
    service = make_service(tiny_engine)
    done, queued = Event(), Semaphore(0)
    submit = service._worker.submit

    def tell(call: Callable[[], Any]) -> Future[Any]:
        future = submit(call)
        queued.release()
        return future

    monkeypatch.setattr(service._worker, "submit", tell)

    async def ask() -> None:
        busy = submit(lambda: done.wait(10))
        leaver = asyncio.create_task(service.classify([GOOD], Question(labels=["left"])))
        await asyncio.to_thread(queued.acquire)
        stayer = asyncio.create_task(service.classify([GOOD], Question(labels=["stayed"])))
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        done.set()
        await stayer
        busy.result()

    asyncio.run(ask())
    assert service.close()
    assert answered == [["stayed"]]


def test_after_a_bad_image_the_others_of_its_request_are_not_decoded(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    decoded: list[str] = []
    failed = Event()
    decode = Engine.decode

    def remember(engine: Engine, file: ImageFile, position: int = 0) -> Any:
        decoded.append(file.filename)
        if position:
            assert failed.wait(10)
        return decode(engine, file, position)

    monkeypatch.setattr(Engine, "decode", remember)

    async def ask() -> None:
        with pytest.raises(BadImageError):
            await service.classify([BAD, *[photo(n) for n in range(10)]], QUESTION)
        # The cancelled ones are let go of at the loop's next turn.
        await asyncio.sleep(0)
        failed.set()

    asyncio.run(ask())
    assert service.close()
    assert len(decoded) <= 1 + service.engine.threads


def test_a_failure_in_the_worker_is_its_own_requests_alone(
    monkeypatch: pytest.MonkeyPatch, service: Service, tiny_engine: Engine
) -> None:
    answer = Engine.answer

    def fail_at_times(
        engine: Engine, images: Any, question: Question, *rest: Any
    ) -> Classification:
        if "bad" in question.labels:
            raise RuntimeError("the model failed")
        return answer(engine, images, question, *rest)

    monkeypatch.setattr(Engine, "answer", fail_at_times)
    bad = Question(labels=["bad"])

    async def ask() -> list[Classification | BaseException]:
        return await asyncio.gather(
            *(service.classify([GOOD], q) for q in (QUESTION, bad, QUESTION, bad, QUESTION)),
            return_exceptions=True,
        )

    answers = asyncio.run(ask())
    assert [isinstance(a, RuntimeError) for a in answers] == [False, True, False, True, False]
    for found in answers[::2]:
        assert isinstance(found, Classification)
        assert_same(found, tiny_engine.classify([GOOD], QUESTION))
    assert service.fault() is None


def test_the_worker_survives_a_request_that_failed(service: Service) -> None:
    with pytest.raises(BadImageError):
        asyncio.run(service.classify([BAD], QUESTION))
    answer = asyncio.run(service.classify([GOOD], QUESTION))
    total = sum(p.probability for p in answer.results[0].predictions)
    np.testing.assert_allclose(total, 1, atol=1e-5)
