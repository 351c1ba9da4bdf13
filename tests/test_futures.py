"""Steps follow each other, fail and are cancelled together, and leave nothing behind."""

import gc
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import permutations
from threading import Barrier
from typing import Any

import pytest

from app.futures import both, gather, then


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def no_step(result: object) -> Future[object]:
    """A step that is not to be begun."""
    pytest.fail(f"begun with {result}")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_results_are_in_the_order_of_the_steps_however_they_come(order: tuple[int, ...]) -> None:
    steps: list[Future[int]] = [Future() for _ in order]
    whole = gather(steps)
    for number in order:
        assert not whole.done()
        steps[number].set_result(number)
    assert whole.result(0) == (0, 1, 2)


def test_the_results_of_no_steps_are_there_at_once() -> None:
    assert gather([]).result(0) == ()


def test_what_follows_begins_with_the_result() -> None:
    first, second = Future[int](), Future[str]()
    begun: list[int] = []

    def begin(result: int) -> Future[str]:
        begun.append(result)
        return second

    whole = then(first, begin)
    assert not begun
    first.set_result(3)
    assert begun == [3]
    assert not whole.done()
    second.set_result("three")
    assert whole.result(0) == "three"
    assert then(done(1), lambda result: done(result + 1)).result(0) == 2


def test_after_a_failure_nothing_begins_and_the_other_steps_are_cancelled() -> None:
    error = ValueError("bad")
    other: Future[int] = Future()
    whole = then(both(failed(error), other), no_step)
    assert whole.exception(0) is error
    assert other.cancelled()


def test_a_step_that_cannot_begin_fails_the_whole() -> None:
    assert isinstance(then(done(0), lambda zero: done(1 // zero)).exception(0), ZeroDivisionError)


def test_to_cancel_the_whole_cancels_the_step_at_hand() -> None:
    first, other, second = Future[int](), Future[int](), Future[int]()
    whole = then(gather([first, other]), lambda _: second)
    assert whole.cancel()
    assert first.cancelled()
    assert other.cancelled()
    whole = then(done(1), lambda _: second)
    assert whole.cancel()
    assert second.cancelled()


def test_a_whole_that_is_cancelled_begins_no_more_and_stays_so() -> None:
    first: Future[int] = Future()
    first.set_running_or_notify_cancel()
    whole = then(first, no_step)
    assert whole.cancel()
    first.set_result(1)
    assert whole.cancelled()


def test_a_step_that_was_cancelled_cancels_the_whole() -> None:
    first, other = Future[int](), Future[int]()
    whole = then(both(first, other), done)
    first.cancel()
    assert other.cancelled()
    with pytest.raises(CancelledError):
        whole.result(0)


def test_steps_that_end_at_once_give_one_result() -> None:
    together = Barrier(4)

    def step(number: int) -> int:
        together.wait(10)
        return number

    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            steps = [pool.submit(step, number) for number in range(4)]
            assert gather(steps).result(10) == (0, 1, 2, 3)


class Thing:
    """Something that one can see go away."""


def a_thing_goes_through_steps() -> Thing:
    thing, step, second = Thing(), Future[Thing](), Future[int]()
    whole = then(both(gather([step]), done(1)), lambda _: second)
    step.set_result(thing)
    second.set_result(2)
    assert whole.result(0) == 2
    return thing


def test_nothing_is_kept_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(a_thing_goes_through_steps())
        assert gone() is None
    finally:
        gc.enable()
