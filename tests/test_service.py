"""The service answers as the engine does, many at once, and knows whether it is alive."""

import asyncio
from collections.abc import Iterator, Sequence
from threading import Event

import numpy as np
import pytest

from app.engine import BadImageError, Classification, Engine, ImageFile, Question
from app.service import Service
from tests.photos import encode, gradient

QUESTION = Question(labels=["cat", "dog", "car"])
GOOD = ImageFile("good.png", encode(gradient()))
BAD = ImageFile("bad.png", b"not an image")


@pytest.fixture
def service(tiny_engine: Engine) -> Iterator[Service]:
    service = Service(tiny_engine)
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


def test_it_is_alive_until_it_is_closed(tiny_engine: Engine) -> None:
    service = Service(tiny_engine)
    assert asyncio.run(service.is_alive())
    service.close()
    assert not asyncio.run(service.is_alive())
    service.close()


def test_it_is_not_alive_while_the_worker_is_stuck(service: Service) -> None:
    done = Event()
    service._worker.submit(done.wait, 10)
    try:
        assert not asyncio.run(service.is_alive(patience=0.05))
    finally:
        done.set()
    assert asyncio.run(service.is_alive())


def test_the_worker_survives_a_request_that_failed(service: Service) -> None:
    with pytest.raises(BadImageError):
        asyncio.run(service.classify([BAD], QUESTION))
    answer = asyncio.run(service.classify([GOOD], QUESTION))
    total = sum(p.probability for p in answer.results[0].predictions)
    np.testing.assert_allclose(total, 1, atol=1e-5)
