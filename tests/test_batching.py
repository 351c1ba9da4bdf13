"""One thread, one call after another: a failure is its caller's, and a hang is seen."""

from functools import partial
from threading import Event, current_thread

import pytest

from app.worker import Worker


def test_calls_are_made_in_order_in_one_thread() -> None:
    names: list[str] = []
    worker = Worker("the-worker", lambda: names.append(current_thread().name))
    futures = [worker.submit(partial(int, number)) for number in range(20)]
    assert [future.result() for future in futures] == list(range(20))
    assert names == ["the-worker"]
    assert worker.close(10)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), KeyboardInterrupt()])
def test_a_failure_goes_to_its_caller_and_the_worker_lives_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    worker = Worker("worker")
    assert worker.submit(fail).exception() is error
    assert worker.submit(lambda: 1).result() == 1
    assert worker.is_alive
    assert worker.close(10)


def test_a_cancelled_call_is_not_made() -> None:
    made: list[int] = []
    begun, go_on = Event(), Event()

    def block() -> None:
        begun.set()
        go_on.wait(10)

    worker = Worker("worker")
    blocking = worker.submit(block)
    assert begun.wait(10)
    assert worker.submit(lambda: made.append(1)).cancel()
    kept = worker.submit(lambda: made.append(2))
    assert worker.busy_s > 0
    go_on.set()
    kept.result()
    blocking.result()
    assert made == [2]
    assert worker.close(10)
    assert worker.busy_s == 0


def test_a_closed_worker_finishes_what_it_has_and_takes_no_more() -> None:
    worker = Worker("worker")
    futures = [worker.submit(lambda: 1) for _ in range(5)]
    assert worker.close(10)
    assert worker.close(10)
    assert all(future.done() for future in futures)
    assert not worker.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(lambda: 1)


def test_closing_does_not_wait_for_ever() -> None:
    go_on = Event()
    worker = Worker("worker")
    stuck = worker.submit(lambda: go_on.wait(10))
    assert not worker.close(0.01)
    go_on.set()
    assert stuck.result()
    assert worker.close(10)
