"""Whether an engine answers: what a request finds out, and a thread that asks until it does."""

import logging
from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic

from app.index.milvus.client import EngineError, pauses_s

logger = logging.getLogger(__name__)


class Watch:
    """Knows whether a collection answers. Methods may be called from any thread.

    While it does not, requests need not each wait for a time limit to learn it: one thread asks,
    at once and then with pauses of up to five seconds.
    """

    def __init__(self, name: str, ask: Callable[[], None]) -> None:
        """Watch a collection that answers now.

        Args:
            name: of the collection, for the log.
            ask: returns if it answers as it should, else raises EngineError.
        """
        self._name = name
        self._ask = ask
        self._lock = Lock()
        self._reason: str | None = None
        self._closed = Event()

    @property
    def away(self) -> str | None:
        """Why it does not answer now; None where it does."""
        return self._reason

    def lost(self, reason: str) -> None:
        """A request got no answer."""
        with self._lock:
            if self._reason is not None or self._closed.is_set():
                return
            self._reason = reason
            logger.warning("The caption collection '%s' does not answer: %s", self._name, reason)
            Thread(target=self._ask_until_it_answers, name="milvus-watch", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def _ask_until_it_answers(self) -> None:
        since = monotonic()
        for pause in pauses_s():
            try:
                self._ask()
            except EngineError as error:
                self._reason = str(error)
            else:
                with self._lock:
                    self._reason = None
                logger.warning(
                    "The caption collection '%s' answers again, after %.1f seconds.",
                    self._name,
                    monotonic() - since,
                )
                return
            if self._closed.wait(pause):
                return
