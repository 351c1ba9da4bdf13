"""The inference worker: one thread that computes what concurrent requests ask for, in batches.

While one batch is computed, what comes in meanwhile gathers for the next. So an idle server never
waits, and a busy one shares its passes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread
from time import monotonic, perf_counter
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Row = TypeVar("Row")


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


class Lane(Generic[Item, Row]):
    """One kind of work: the items that wait for it, and how a batch of them is computed."""

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Row]],
        limit: int,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Make a lane.

        Args:
            compute: a batch of items to as many rows.
            limit: most items in a batch.
            observe: told the size of each batch.
        """
        self._compute = compute
        self._limit = limit
        self._observe = observe
        self._lock = Lock()
        self._orders: deque[_Order[Item, Row]] = deque()

    @property
    def waiting(self) -> int:
        """Items not yet computed, those of the batch at hand among them."""
        with self._lock:
            return sum(order.left for order in self._orders)

    @property
    def is_full(self) -> bool:
        """Whether a batch could not become larger by waiting."""
        return self.waiting >= self._limit

    def put(self, items: Sequence[Item]) -> Future[Computed[Row]]:
        """Let items wait for their batch; cancelling the future takes them out."""
        order = _Order[Item, Row](items)
        if not items:
            order.add([], 0.0)
            return order.future
        with self._lock:
            self._orders.append(order)
        return order.future

    def turn(self) -> bool:
        """Compute one batch; False where nothing waited.

        A batch that fails is computed again for each request alone, so that a failure is that of
        the request whose items bring it about.
        """
        with self._lock:
            self._forget_done()
            shares = self._shares()
        if not shares:
            return False
        try:
            self._run(shares)
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            if len(shares) == 1:
                shares[0][0].fail(error)
            else:
                self._run_each_alone(shares)
        with self._lock:
            self._forget_done()
        return True

    def _forget_done(self) -> None:
        """Let go of the orders that are answered or whose request has gone."""
        self._orders = deque(order for order in self._orders if not order.future.done())

    def _shares(self) -> list[tuple[_Order[Item, Row], int]]:
        """Who gets how many of the next batch's places.

        The oldest share them equally; what one does not need, the others get. So a long order
        neither holds up short ones nor is held up by them.
        """
        oldest = sorted(list(self._orders)[: self._limit], key=lambda order: order.left)
        shares = []
        room = self._limit
        for position, order in enumerate(oldest):
            count = min(order.left, room // (len(oldest) - position))
            shares.append((order, count))
            room -= count
        return shares

    def _run(self, shares: Sequence[tuple[_Order[Item, Row], int]]) -> None:
        items = [item for order, count in shares for item in order.next_items(count)]
        start = perf_counter()
        rows = self._compute(items)
        seconds = perf_counter() - start
        self._observe(len(items))
        first = 0
        for order, count in shares:
            order.add(rows[first : first + count], seconds)
            first += count

    def _run_each_alone(self, shares: Sequence[tuple[_Order[Item, Row], int]]) -> None:
        for order, count in shares:
            try:
                self._run([(order, count)])
            except BaseException as error:  # noqa: BLE001 - as in `turn`
                order.fail(error)


class Worker:
    """One thread that takes turns between its lanes.

    Unlike an executor of the standard library it gathers batches, it says how long the one at hand
    has been running, and one that never ends does not keep the process from ending.
    """

    def __init__(
        self,
        name: str,
        lanes: Sequence[Lane[Any, Any]],
        initialize: Callable[[], object] = lambda: None,
        wait_s: float = 0.0,
    ) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            lanes: served one batch each in turn.
            initialize: called in the thread before the first batch.
            wait_s: how long an idle worker lets a batch gather before it begins.
        """
        self._lanes = lanes
        self._initialize = initialize
        self._wait_s = wait_s
        self._changed = Condition()
        self._closed = False
        self._busy_since: float | None = None
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, lane: Lane[Item, Row], items: Sequence[Item]) -> Future[Computed[Row]]:
        """Let items wait in one of the lanes; those of a cancelled future are dropped.

        Raises:
            RuntimeError: the worker was closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            future = lane.put(items)
            self._changed.notify()
        return future

    @property
    def busy_s(self) -> float:
        """Seconds that the batch at hand has been running; 0 where there is none."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    @property
    def is_alive(self) -> bool:
        """Whether the thread is there to take work."""
        return self._thread.is_alive() and not self._closed

    def close(self, patience_s: float) -> bool:
        """Take no more work, finish what waits; False if that takes longer than `patience_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        self._initialize()
        while self._await_work():
            worked = True
            while worked:
                worked = False
                for lane in self._lanes:
                    self._busy_since = monotonic()
                    worked |= lane.turn()
                    self._busy_since = None

    def _await_work(self) -> bool:
        """Sleep until something waits; False once nothing ever will."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._any_waits())
            if self._wait_s and not self._closed:
                self._changed.wait_for(self._need_not_wait, self._wait_s)
            return not self._closed or self._any_waits()

    def _any_waits(self) -> bool:
        return any(lane.waiting for lane in self._lanes)

    def _need_not_wait(self) -> bool:
        return self._closed or any(lane.is_full for lane in self._lanes)
