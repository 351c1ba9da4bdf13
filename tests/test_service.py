"""The service answers as the engine does, many at once, and knows whether it is alive."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from threading import Barrier, Event, current_thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from app.batching import Worker
from app.clip.labels import LabelEncoder
from app.clip.model import ClipModel
from app.engine import (
    BadImageError,
    Classification,
    DecodedImage,
    Engine,
    ImageFile,
    Question,
)
from app.index.collection import Collection
from app.metrics import Metrics
from app.service import Service, TooSlowError
from app.settings import Settings
from tests.photos import encode, gradient

QUESTION = Question(labels=["cat", "dog", "car"])
GOOD = ImageFile("good.png", encode(gradient()))
BAD = ImageFile("bad.png", b"not an image")


def make_service(engine: Engine, **settings: Any) -> Service:
    return Service(engine, Settings(**settings), Metrics(), Worker("inference"))


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


class Held:
    """Remembers the sizes of batches, and waits in each until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
        self.begun, self.go_on = Event(), Event()
        self.images: list[int] = []
        encode = ClipModel.encode_images

        def wait(model: ClipModel, pixels: Sequence[Tensor]) -> Any:
            self.images.append(len(pixels))
            self.begun.set()
            assert self.go_on.wait(10)
            return encode(model, pixels)

        monkeypatch.setattr(ClipModel, "encode_images", wait)
        self.service = make_service(engine)
        # A pass that was held up is no measure of how long the next one takes.
        self.service._images._longest_s = inf

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what changes is in another thread
                await asyncio.sleep(0.001)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tiny_engine: Engine) -> Iterator[Held]:
    """A service whose image tower can be held up."""
    held = Held(monkeypatch, tiny_engine)
    yield held
    held.go_on.set()
    held.service.close()


def test_the_event_loop_is_free_while_the_model_works(held: Held) -> None:
    async def ask() -> bool:
        answer = asyncio.create_task(held.service.classify([GOOD], QUESTION))
        await held.until(held.begun.is_set)
        await asyncio.sleep(0.05)
        waited = not answer.done()
        held.go_on.set()
        assert len((await answer).results) == 1
        return waited

    assert asyncio.run(ask())


def test_requests_that_wait_together_share_a_pass(held: Held) -> None:
    async def ask() -> None:
        first = asyncio.create_task(held.service.classify([GOOD], QUESTION))
        await held.until(held.begun.is_set)
        others = [
            asyncio.create_task(held.service.classify([photo(n), photo(n + 1)], QUESTION))
            for n in range(3)
        ]
        await held.until(lambda: held.service._images.waiting == 7)
        held.go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert held.images == [1, 6]


def test_a_lone_request_has_every_thread_and_several_share_them(
    monkeypatch: pytest.MonkeyPatch, tiny_engine: Engine
) -> None:
    threads: list[int] = []
    together = Barrier(1)
    encode = ClipModel.encode_images

    def look(model: ClipModel, pixels: Sequence[Tensor]) -> Any:
        # Only batches side by side get past it.
        together.wait(10)
        rows = encode(model, pixels)
        threads.append(torch.get_num_threads())
        together.wait(10)
        return rows

    monkeypatch.setattr(ClipModel, "encode_images", look)
    service = make_service(replace(tiny_engine, threads=4), parallel_batches=2, batch_size=1)

    async def ask(requests: int) -> None:
        nonlocal together
        together = Barrier(requests)
        await asyncio.gather(*(service.classify([GOOD], QUESTION) for _ in range(requests)))

    asyncio.run(ask(1))
    asyncio.run(ask(2))
    assert threads == [4, 2, 2]
    assert service.close()


def answering_threads(service: Service, requests: int) -> set[str]:
    """In which threads so many requests at once were answered."""
    names: list[str] = []
    answer = Engine.answer

    def look(engine: Engine, *asked: Any) -> Classification:
        names.append(current_thread().name)
        return answer(engine, *asked)

    async def ask() -> None:
        await asyncio.gather(*(service.classify([GOOD], QUESTION) for _ in range(requests)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "answer", look)
        asyncio.run(ask())
    assert len(names) == requests
    return {name.partition("_")[0] for name in names}


def test_a_lone_request_is_answered_where_it_was_encoded(service: Service) -> None:
    assert answering_threads(service, 1) == {"inference"}


def test_the_worker_searches_for_nobody_while_others_need_it(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setattr(Service, "_is_crowded", lambda _: True)
    assert answering_threads(service, 3) == {"answer"}


def test_the_worker_never_waits_for_a_collection_elsewhere(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setattr(Collection, "is_here", False)
    assert answering_threads(service, 1) == {"answer"}


def test_an_answered_request_leaves_nothing_for_the_garbage_collector(service: Service) -> None:
    def images() -> int:
        return sum(type(thing) is DecodedImage for thing in gc.get_objects())

    asyncio.run(service.classify([GOOD], QUESTION))
    gc.collect()
    gc.disable()
    try:
        asyncio.run(service.classify([GOOD, photo(2)], QUESTION))
        asyncio.run(service.search(GOOD, 3, None))
        # The threads let go of their last task when they take the next.
        for pool in (service._decoders, service._answerers):
            for task in [pool.submit(sum, [1]) for _ in range(20)]:
                task.result(10)
        service._worker.call(lambda: None).result(10)
        assert images() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("threads", "wanted", "batches"),
    [(1, 0, 1), (2, 0, 2), (8, 0, 8), (9, 0, 4), (12, 0, 6), (64, 0, 8), (12, 1, 1), (2, 5, 2)],
)
def test_batches_side_by_side_leave_few_cores_idle(
    tiny_engine: Engine, threads: int, wanted: int, batches: int
) -> None:
    service = make_service(replace(tiny_engine, threads=threads), parallel_batches=wanted)
    assert service.parallel_batches == batches
    assert service.close()


def test_it_works_until_it_is_closed(tiny_engine: Engine) -> None:
    service = make_service(tiny_engine)
    assert service.fault() is None
    assert service.close()
    assert service.fault() == "The inference worker has ended."
    assert service.close()


def test_a_stuck_worker_is_told_and_forgotten_once_it_goes_on(held: Held) -> None:
    held.service._stuck_after_s = 1e-6

    async def ask() -> None:
        answer = asyncio.create_task(held.service.classify([GOOD], QUESTION))
        await held.until(held.begun.is_set)
        assert "busy with one computation" in str(held.service.fault())
        held.go_on.set()
        await answer
        await held.until(lambda: held.service.fault() is None)

    asyncio.run(ask())


def test_a_request_that_takes_too_long_is_given_up(held: Held) -> None:
    held.service._request_timeout_s = 0.05
    with pytest.raises(TooSlowError, match=r"longer than 0\.05 seconds"):
        asyncio.run(held.service.classify([GOOD], QUESTION))


def test_work_that_nobody_waits_for_is_not_begun(held: Held) -> None:
    async def ask() -> None:
        busy = asyncio.create_task(held.service.classify([GOOD], QUESTION))
        await held.until(held.begun.is_set)
        leaver = asyncio.create_task(held.service.classify([GOOD] * 5, Question(labels=["left"])))
        await held.until(lambda: held.service._images.waiting == 6)
        stayer = asyncio.create_task(held.service.classify([GOOD], QUESTION))
        await held.until(lambda: held.service._images.waiting == 7)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        held.go_on.set()
        await asyncio.gather(busy, stayer)

    asyncio.run(ask())
    assert held.images == [1, 1]


def test_after_a_bad_image_the_others_of_its_request_are_not_decoded(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    decoded: list[str] = []
    failed = Event()
    decode = Engine.decode

    def remember(engine: Engine, file: ImageFile, position: int, crops: bool) -> Any:
        decoded.append(file.filename)
        if position:
            assert failed.wait(10)
        return decode(engine, file, position, crops)

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
    monkeypatch: pytest.MonkeyPatch, tiny_engine: Engine
) -> None:
    encode = ClipModel.encode_texts

    def fail_at_times(model: ClipModel, texts: Sequence[str]) -> Any:
        if any("bad" in text for text in texts):
            raise RuntimeError("the model failed")
        return encode(model, texts)

    monkeypatch.setattr(ClipModel, "encode_texts", fail_at_times)
    service = make_service(
        replace(tiny_engine, labels=LabelEncoder(tiny_engine.model.encode_texts, 0))
    )
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
    assert service.close()


def test_the_worker_survives_a_request_that_failed(service: Service) -> None:
    with pytest.raises(BadImageError):
        asyncio.run(service.classify([BAD], QUESTION))
    answer = asyncio.run(service.classify([GOOD], QUESTION))
    total = sum(p.probability for p in answer.results[0].predictions)
    np.testing.assert_allclose(total, 1, atol=1e-5)
