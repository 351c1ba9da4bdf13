"""Concurrent requests share batches; each gets its own rows, its own failure, its own share."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event, Semaphore, current_thread
from time import sleep
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import batching
from app.batching import Lane, Worker


class Doubling:
    """Doubles numbers and remembers the batches; can be held up, and cannot bear 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go_on = Event(), Event()
        self.go_on.set()
        self.thread = ""

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.thread = current_thread().name
        self.begun.set()
        assert self.go_on.wait(10)
        if 13 in items:
            raise ValueError("13 is unlucky")
        self.batches.append(list(items))
        return [2 * item for item in items]

    def hold(self) -> None:
        self.begun.clear()
        self.go_on.clear()


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


def working(name: str, *lanes: Lane[Any, Any], wait_s: float = 0.0) -> Worker:
    worker = Worker(name, wait_s)
    worker.serve(lanes)
    return worker


def crowded(threads: int, *lanes: Lane[Any, Any]) -> Worker:
    worker = Worker("worker")
    worker.serve(lanes, threads, is_crowded=lambda: True)
    return worker


def turn(lane: Lane[int, int], threads: int = 1) -> bool:
    """One batch; False where nothing waits."""
    batch = lane.take(threads)
    if batch:
        lane.compute(batch)
    return bool(batch)


@given(
    orders=st.lists(st.lists(st.integers(20, 99), max_size=40), max_size=12),
    limit=st.integers(1, 16),
)
def test_every_order_gets_its_own_rows_whatever_the_batches(
    orders: list[list[int]], limit: int
) -> None:
    doubling = Doubling()
    sizes: list[int] = []
    lane = Lane(doubling, limit, sizes.append)
    futures = [lane.put(order) for order in orders]
    while turn(lane):
        pass
    assert [future.result().rows for future in futures] == [[2 * i for i in o] for o in orders]
    assert sizes == [len(batch) for batch in doubling.batches]
    assert all(0 < size <= limit for size in sizes)
    total = sum(map(len, orders))
    assert sum(sizes) == total
    assert len(sizes) == -(-total // limit) or len(orders) > limit
    assert lane.waiting == 0


def test_a_long_order_shares_each_batch_with_short_ones(doubling: Doubling) -> None:
    lane = Lane(doubling, 8)
    long = lane.put(list(range(100, 140)))
    turn(lane)
    short = [lane.put([1]), lane.put([2, 3])]
    turn(lane)
    assert [future.result().rows for future in short] == [[2], [4, 6]]
    assert len(doubling.batches[1]) == 8
    assert not long.done()
    assert lane.waiting == 40 - 8 - 5


def test_seconds_are_those_of_the_passes_it_had_a_part_in(doubling: Doubling) -> None:
    lane = Lane(doubling, 2)
    long, short = lane.put([1, 2, 3, 4, 5]), lane.put([6])
    while turn(lane):
        pass
    assert long.result().seconds > short.result().seconds > 0


def test_what_comes_during_one_pass_shares_the_next(doubling: Doubling) -> None:
    lane = Lane(doubling, 16)
    worker = working("worker", lane)
    doubling.hold()
    first = worker.submit(lane, [1])
    assert doubling.begun.wait(10)
    later = [worker.submit(lane, [number]) for number in (2, 3, 4)]
    assert worker.busy_s > 0
    doubling.go_on.set()
    wait([first, *later], 10)
    assert doubling.batches == [[1], [2, 3, 4]]
    assert worker.close(10)
    assert worker.busy_s == 0


def test_an_idle_worker_begins_at_once_unless_told_to_wait(doubling: Doubling) -> None:
    lane = Lane(doubling, 3)
    worker = working("worker", lane, wait_s=60)
    waiting = [worker.submit(lane, [1]), worker.submit(lane, [2])]
    assert not wait(waiting, 0.05).done
    full = worker.submit(lane, [3])
    assert full.result(10).rows == [6]
    assert doubling.batches == [[1, 2, 3]]
    assert worker.close(10)


def test_while_little_waits_a_batch_is_as_large_as_is_computed_in_time() -> None:
    sizes: list[int] = []

    def compute(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        sleep(0.01 * len(items))
        return items

    lane = Lane(compute, 8, longest_s=0.025)
    lane.put([1])
    assert turn(lane)
    waiting = lane.put([1, 2, 3, 4])
    while turn(lane, threads=2):
        continue
    assert waiting.done()
    assert sizes[0] == 1
    assert 1 <= max(sizes[1:]) <= 2


def test_what_waits_long_anyway_is_computed_in_large_batches() -> None:
    sizes: list[int] = []

    def compute(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        sleep(0.001)
        return items

    lane = Lane(compute, 8, longest_s=0)
    for _ in range(40):
        lane.put([1])
    while turn(lane, threads=2):
        continue
    # The first knows no pace yet; then a quarter of what waits, at least one.
    assert sizes[:6] == [8, 8, 6, 4, 3, 2]
    assert sum(sizes) == 40


def test_a_worker_rests_once_after_a_while_and_works_again(
    monkeypatch: pytest.MonkeyPatch, doubling: Doubling
) -> None:
    monkeypatch.setattr(batching, "REST_AFTER_S", 0.01)
    rested = Semaphore(0)
    lane = Lane(doubling, 1)
    worker = Worker("worker")
    worker.serve([lane], 2, rest=rested.release)
    for _ in range(2):
        assert worker.submit(lane, [1]).result(10).rows == [2]
        assert rested.acquire(timeout=10)
        assert not rested.acquire(timeout=0.05)
    assert worker.close(10)


def test_lanes_take_turns(doubling: Doubling) -> None:
    texts, images = Lane(doubling, 2), Lane(doubling, 2)
    worker = working("worker", texts, images)
    doubling.hold()
    held = worker.submit(images, [0])
    assert doubling.begun.wait(10)
    many = worker.submit(texts, [1, 2, 3, 4, 5, 6])
    image = worker.submit(images, [7])
    doubling.go_on.set()
    wait([held, many, image], 10)
    assert doubling.batches == [[0], [1, 2], [7], [3, 4], [5, 6]]
    assert worker.close(10)


def test_an_order_whose_client_has_gone_costs_nothing(doubling: Doubling) -> None:
    lane = Lane(doubling, 2)
    worker = working("worker", lane)
    doubling.hold()
    leaver = worker.submit(lane, [1, 2, 3, 4])
    assert doubling.begun.wait(10)
    never = worker.submit(lane, [5])
    stayer = worker.submit(lane, [6])
    assert leaver.cancel()
    assert never.cancel()
    doubling.go_on.set()
    assert stayer.result(10).rows == [12]
    assert doubling.batches == [[1, 2], [6]]
    assert worker.close(10)


def test_a_failure_is_that_of_the_order_that_brings_it_about(doubling: Doubling) -> None:
    lane = Lane(doubling, 8)
    good, bad, also_good = lane.put([1, 2]), lane.put([3, 13]), lane.put([4])
    assert turn(lane)
    assert good.result().rows == [2, 4]
    assert also_good.result().rows == [8]
    with pytest.raises(ValueError, match="unlucky"):
        bad.result()
    assert not lane.take()


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), KeyboardInterrupt()])
def test_the_worker_outlives_any_failure(error: BaseException) -> None:
    def fail(items: Sequence[int]) -> list[int]:
        if items[0]:
            raise error
        return [1]

    lane = Lane(fail, 1)
    worker = working("worker", lane)
    assert worker.submit(lane, [1]).exception(10) is error
    assert worker.submit(lane, [0]).result(10).rows == [1]
    assert worker.is_alive
    assert worker.close(10)


def test_many_threads_submit_at_once_and_nothing_is_lost(doubling: Doubling) -> None:
    lane = Lane(doubling, 7)
    worker = working("the-worker", lane)
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(lambda n: worker.submit(lane, [n + 20]), range(500)))
    assert [future.result(10).rows for future in futures] == [[2 * (n + 20)] for n in range(500)]
    assert doubling.thread == "the-worker"
    assert worker.close(10)


def test_where_it_is_crowded_batches_are_computed_side_by_side(doubling: Doubling) -> None:
    lane = Lane(doubling, 1)
    worker = crowded(2, lane)
    doubling.hold()
    first = worker.submit(lane, [1])
    assert doubling.begun.wait(10)
    doubling.begun.clear()
    second = worker.submit(lane, [2])
    assert doubling.begun.wait(10)
    third = worker.submit(lane, [3])
    assert not wait([first, second, third], 0.05).done
    assert not lane.is_idle
    doubling.go_on.set()
    assert [future.result(10).rows for future in (first, second, third)] == [[2], [4], [6]]
    assert worker.close(10)
    assert lane.is_idle


def test_what_waits_in_another_lane_is_begun_once_the_first_thread_is_busy(
    doubling: Doubling,
) -> None:
    held, other = Lane(doubling, 1), Lane[int, int](lambda items: items, 1)
    worker = Worker("worker")
    is_crowded, go_on = False, Event()
    worker.serve([held, other], 2, is_crowded=lambda: is_crowded)
    doubling.hold()
    called = worker.call(lambda: go_on.wait(10))
    futures = [worker.submit(held, [1]), worker.submit(other, [2])]
    is_crowded = True
    go_on.set()
    assert called.result(10).rows == [True]
    assert futures[1].result(10).rows == [2]
    assert not futures[0].done()
    doubling.go_on.set()
    assert futures[0].result(10).rows == [2]
    assert worker.close(10)


def test_a_quiet_service_is_served_by_the_first_thread_alone(doubling: Doubling) -> None:
    lane = Lane(doubling, 1)
    worker = Worker("worker")
    begun: list[int] = []
    worker.serve([lane], 2, is_crowded=lambda: False, begin=lambda: begun.append(worker.passes))
    doubling.hold()
    futures = [worker.submit(lane, [1]), worker.submit(lane, [2])]
    assert doubling.begun.wait(10)
    doubling.begun.clear()
    assert not doubling.begun.wait(0.05)
    doubling.go_on.set()
    assert [future.result(10).rows for future in futures] == [[2], [4]]
    assert begun == [1, 1]
    assert worker.close(10)


def test_no_order_is_in_two_batches_at_once(doubling: Doubling) -> None:
    lane = Lane(doubling, 3)
    worker = crowded(4, lane)
    orders = [list(range(20, 20 + size)) for size in (1, 40, 7, 0, 25, 3) * 5]
    futures = [worker.submit(lane, order) for order in orders]
    for future, order in zip(futures, orders, strict=True):
        assert future.result(10).rows == [2 * item for item in order]
    assert sum(map(len, doubling.batches)) == sum(map(len, orders))
    assert worker.close(10)


def test_nothing_asked_is_answered_at_once(doubling: Doubling) -> None:
    lane = Lane(doubling, 7)
    assert lane.put([]).result(0).rows == []
    assert not lane.take()


def test_a_closed_worker_finishes_what_it_has_and_takes_no_more(doubling: Doubling) -> None:
    lane = Lane(doubling, 2)
    worker = working("worker", lane)
    futures = [worker.submit(lane, [1, 2, 3]) for _ in range(5)]
    assert worker.close(10)
    assert worker.close(10)
    assert all(future.done() for future in futures)
    assert not worker.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(lane, [1])


def test_closing_does_not_wait_for_ever(doubling: Doubling) -> None:
    lane = Lane(doubling, 2)
    worker = working("worker", lane)
    doubling.hold()
    stuck = worker.submit(lane, [1])
    assert not worker.close(0.01)
    doubling.go_on.set()
    assert stuck.result(10).rows == [2]
    assert worker.close(10)


def test_a_call_runs_in_the_thread_of_the_batches(doubling: Doubling) -> None:
    lane = Lane(doubling, 4)
    worker = working("the-worker", lane)
    (name,) = worker.call(lambda: current_thread().name).result(10).rows
    assert worker.submit(lane, [1]).result(10).rows == [2]
    assert doubling.thread == name == "the-worker"
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0).result(10)
    assert worker.close(10)
