"""The inference worker: computes what concurrent requests ask for, in batches.

While one batch is computed, what comes in meanwhile gathers for the next. So an idle server never
waits, and a busy one shares its passes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from threading import Condition, Lock, Thread, current_thread
from time import monotonic, perf_counter
from typing import Any, Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Row = TypeVar("Row")
T = TypeVar("T")

REST_AFTER_S = 5.0
"""How long the first thread of a worker has nothing to do before it rests."""

_LATEST_SHARE = 0.25
"""How much the latest batch counts in what an item takes."""


@dataclass(frozen=True, slots=True)
class Computed(Generic[Row]):
    """What a request gets back.

    Attributes:
        rows: one for each of its items, in their order.
        seconds: that the passes took in which its items had a part.
    """

    rows: list[Row]
    seconds: float


@dataclass(slots=True, eq=False)
class _Order(Generic[Item, Row]):
    """The items that one request asked for, and how far they have been computed."""

    items: Sequence[Item]
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    in_batch: bool = False
    future: Future[Computed[Row]] = field(default_factory=Future)

    @property
    def left(self) -> int:
        return len(self.items) - len(self.rows)

    def next_items(self, count: int) -> Sequence[Item]:
        return self.items[len(self.rows) : len(self.rows) + count]

    def add(self, rows: Sequence[Row], seconds: float) -> None:
        self.rows.extend(rows)
        self.seconds += seconds
        if not self.left and self.future.set_running_or_notify_cancel():
            self.future.set_result(Computed(self.rows, self.seconds))

    def fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


Batch: TypeAlias = list[tuple[_Order[Item, Row], int]]
"""Orders, and how many of each one's next items."""


class Lane(Generic[Item, Row]):
    """One kind of work: the items that wait for it, and how a batch of them is computed."""

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Row]],
        limit: int,
        observe: Callable[[int], None] = lambda _: None,
        longest_s: float = inf,
    ) -> None:
        """Make a lane.

        Args:
            compute: a batch of items to as many rows.
            limit: most items in a batch.
            observe: told the size of each batch.
            longest_s: how long a batch may take, by what the last ones took, while little waits. A
                thread that takes more of it may work long while another runs dry.
        """
        self._compute = compute
        self._limit = limit
        self._observe = observe
        self._longest_s = longest_s
        self._item_s = 0.0
        self._lock = Lock()
        self._orders: deque[_Order[Item, Row]] = deque()

    @property
    def waiting(self) -> int:
        """Items not yet computed, those of the batch at hand among them."""
        with self._lock:
            return sum(order.left for order in self._orders)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to compute that is not being computed."""
        with self._lock:
            return not self._free()

    @property
    def is_full(self) -> bool:
        """Whether a batch could not become larger by waiting."""
        with self._lock:
            return self._free_items() >= self._limit

    def put(self, items: Sequence[Item]) -> Future[Computed[Row]]:
        """Let items wait for their batch; cancelling the future takes them out."""
        order = _Order[Item, Row](items)
        if not items:
            order.add([], 0.0)
            return order.future
        with self._lock:
            self._orders.append(order)
        return order.future

    def take(self, threads: int = 1) -> Batch[Item, Row]:
        """What is to be computed next, and now is nobody else's; empty where nothing waits.

        Args:
            threads: that take from this lane.
        """
        with self._lock:
            self._forget_done()
            batch = self._shares(self._room(threads))
            for order, _ in batch:
                order.in_batch = True
        return batch

    def compute(self, batch: Batch[Item, Row]) -> None:
        """Compute a batch that was taken.

        One that fails is computed again for each request alone, so that a failure is that of the
        request whose items bring it about.
        """
        try:
            self._run(batch)
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            if len(batch) == 1:
                batch[0][0].fail(error)
            else:
                self._run_each_alone(batch)
        with self._lock:
            for order, _ in batch:
                order.in_batch = False
            self._forget_done()

    def _room(self, threads: int) -> int:
        """How many items the next batch may have.

        As many as can be computed in time; or half of this thread's share of what waits, where
        that is more: what waits long anyway is computed faster in large batches.
        """
        fitting = self._longest_s / self._item_s if self._item_s else inf
        share = self._free_items() // (2 * threads)
        return int(min(self._limit, max(fitting, share, 1)))

    def _free_items(self) -> int:
        return sum(order.left for order in self._free())

    def _free(self) -> list[_Order[Item, Row]]:
        """The orders that no batch holds, oldest first."""
        return [order for order in self._orders if not order.in_batch]

    def _forget_done(self) -> None:
        """Let go of the orders that are answered or whose request has gone."""
        self._orders = deque(order for order in self._orders if not order.future.done())

    def _shares(self, room: int) -> Batch[Item, Row]:
        """Who gets how many of the next batch's `room` places.

        The oldest share them equally; what one does not need, the others get. So a long order
        neither holds up short ones nor is held up by them.
        """
        oldest = sorted(self._free()[:room], key=lambda order: order.left)
        shares = []
        for position, order in enumerate(oldest):
            count = min(order.left, room // (len(oldest) - position))
            shares.append((order, count))
            room -= count
        return shares

    def _run(self, batch: Batch[Item, Row]) -> None:
        items = [item for order, count in batch for item in order.next_items(count)]
        start = perf_counter()
        rows = self._compute(items)
        seconds = perf_counter() - start
        self._note_pace(seconds / len(items))
        self._observe(len(items))
        first = 0
        for order, count in batch:
            order.add(rows[first : first + count], seconds)
            first += count

    def _note_pace(self, item_s: float) -> None:
        before = self._item_s or item_s
        self._item_s = before + _LATEST_SHARE * (item_s - before)

    def _run_each_alone(self, batch: Batch[Item, Row]) -> None:
        for order, count in batch:
            try:
                self._run([(order, count)])
            except BaseException as error:  # noqa: BLE001 - as in `compute`
                order.fail(error)


class Worker:
    """Threads that take turns between lanes.

    The first thread alone serves a quiet service, where each batch can have every core. The others
    come in where it is crowded and the first is busy: batches side by side, each on a core of its
    own, wait less for each other than the cores that share a batch do.

    Unlike an executor of the standard library it gathers batches, it says how long the ones at hand
    have been running, and one that never ends does not keep the process from ending.
    """

    def __init__(self, name: str, wait_s: float = 0.0) -> None:
        """Start the first thread.

        Args:
            name: of the threads.
            wait_s: how long an idle worker lets a batch gather before it begins.
        """
        self._name = name
        self._wait_s = wait_s
        self._calls = Lane[Callable[[], Any], Any](lambda calls: [call() for call in calls], 1)
        self._lanes: Sequence[Lane[Any, Any]] = ()
        self._is_crowded: Callable[[], bool] = lambda: False
        self._begin: Callable[[], object] = lambda: None
        self._rest: Callable[[], object] = lambda: None
        self._lock = Lock()
        self._for_first, self._for_others = Condition(self._lock), Condition(self._lock)
        self._closed = False
        self._busy_since: dict[int, float] = {}
        self._threads: list[Thread] = []
        self._start_thread()

    def serve(
        self,
        lanes: Sequence[Lane[Any, Any]],
        threads: int = 1,
        is_crowded: Callable[[], bool] = lambda: False,
        begin: Callable[[], object] = lambda: None,
        rest: Callable[[], object] = lambda: None,
    ) -> None:
        """Begin to serve.

        Args:
            lanes: served one batch each in turn.
            threads: most batches at once, at least one.
            is_crowded: whether several batches are worth having at once now.
            begin: called in the thread before each batch.
            rest: called in the first thread once it has had nothing to do for a while.
        """
        with self._lock:
            self._lanes, self._is_crowded = lanes, is_crowded
            self._begin, self._rest = begin, rest
        while len(self._threads) < threads:
            self._start_thread()

    def call(self, function: Callable[[], T]) -> Future[Computed[T]]:
        """Call a function in the first thread, between two batches; its result is the only row.

        Raises:
            RuntimeError: the worker was closed.
        """
        return self.submit(self._calls, [function])

    def submit(self, lane: Lane[Item, Row], items: Sequence[Item]) -> Future[Computed[Row]]:
        """Let items wait in one of the lanes; those of a cancelled future are dropped.

        Raises:
            RuntimeError: the worker was closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            future = lane.put(items)
            if items:
                self._for_first.notify()
            if items and 0 in self._busy_since:
                self._for_others.notify()
        return future

    @property
    def busy_s(self) -> float:
        """Seconds that the longest of the batches at hand has been running; 0 without any."""
        began = list(self._busy_since.values())
        return monotonic() - min(began) if began else 0.0

    @property
    def passes(self) -> int:
        """Batches at hand."""
        return len(self._busy_since)

    @property
    def is_first_thread(self) -> bool:
        """Whether it is the first thread that asks."""
        return current_thread() is self._threads[0]

    @property
    def is_alive(self) -> bool:
        """Whether all threads are there to take work."""
        return all(thread.is_alive() for thread in self._threads) and not self._closed

    def close(self, patience_s: float) -> bool:
        """Take no more work, finish what waits; False if that takes longer than `patience_s`."""
        with self._lock:
            self._closed = True
            self._for_first.notify_all()
            self._for_others.notify_all()
        end = monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _start_thread(self) -> None:
        number = len(self._threads)
        thread = Thread(target=self._work, args=(number,), name=self._name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, number: int) -> None:
        while self._await_work(number):
            while self._take_turns(number):
                continue

    def _take_turns(self, number: int) -> bool:
        """One batch of each lane; False where none had anything to do."""
        worked = [self._turn(number, lane) for lane in self._lanes_of(number)]
        return any(worked)

    def _turn(self, number: int, lane: Lane[Any, Any]) -> bool:
        if lane.is_idle or not self._may_work(number):
            return False
        batch = lane.take(len(self._threads))
        if not batch:
            return False
        self._busy_since[number] = monotonic()
        try:
            self._call_another()
            self._begin()
            lane.compute(batch)
            return True
        finally:
            del self._busy_since[number]

    def _call_another(self) -> None:
        """Have one look again where something is left: they may work once the first is busy."""
        if all(lane.is_idle for lane in self._lanes):
            return
        with self._lock:
            self._for_others.notify()

    def _lanes_of(self, number: int) -> Sequence[Lane[Any, Any]]:
        return self._lanes if number else (self._calls, *self._lanes)

    def _may_work(self, number: int) -> bool:
        return number == 0 or (0 in self._busy_since and self._is_crowded())

    def _await_work(self, number: int) -> bool:
        """Sleep until something waits for this thread; False once nothing ever will."""
        changed = self._for_others if number else self._for_first
        if not number and not self._is_wanted_within(REST_AFTER_S):
            self._rest()
        with self._lock:
            changed.wait_for(lambda: self._closed or self._has_work(number))
            if self._wait_s and not self._closed:
                changed.wait_for(lambda: self._need_not_wait(number), self._wait_s)
            return not self._closed or self._has_work(number)

    def _is_wanted_within(self, seconds: float) -> bool:
        with self._lock:
            return self._for_first.wait_for(lambda: self._closed or self._has_work(0), seconds)

    def _has_work(self, number: int) -> bool:
        return self._may_work(number) and not all(lane.is_idle for lane in self._lanes_of(number))

    def _need_not_wait(self, number: int) -> bool:
        return self._closed or any(lane.is_full for lane in self._lanes_of(number))
