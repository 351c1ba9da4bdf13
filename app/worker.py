"""The inference worker: one thread that computes, and can tell whether it still does."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    future: Future[Any]
    call: Callable[[], Any]

    def run(self) -> None:
        """Compute, unless whoever asked has gone; a failure is theirs alone."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call()
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Worker:
    """One thread that runs one call after another.

    Unlike an executor of the standard library it says how long its job has been running, and a job
    that never ends does not keep the process from ending.
    """

    def __init__(self, name: str, initialize: Callable[[], object] = lambda: None) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            initialize: called in the thread before the first job.
        """
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = Lock()
        self._closed = False
        self._busy_since: float | None = None
        self._initialize = initialize
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call; one whose future is cancelled before its turn is never made.

        Raises:
            RuntimeError: the worker was closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            self._jobs.put(_Job(future, call))
        return future

    @property
    def busy_s(self) -> float:
        """Seconds that the job at hand has been running; 0 where there is none."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    @property
    def is_alive(self) -> bool:
        """Whether the thread is there to take jobs."""
        return self._thread.is_alive() and not self._closed

    def close(self, patience_s: float) -> bool:
        """Take no more jobs, finish those queued; False if that takes longer than `patience_s`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        self._initialize()
        while (job := self._jobs.get()) is not None:
            self._busy_since = monotonic()
            job.run()
            self._busy_since = None
            # The next get() may wait for long: let go of the images of this job.
            del job
