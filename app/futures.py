"""Steps that follow each other in the threads that do them.

An event loop that waited for each step would be woken once for each, between passes of the model;
these wake it once, at the end.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar, cast

A = TypeVar("A")
B = TypeVar("B")


class _Whole(Future[A]):
    """What comes of steps; cancelling it cancels them.

    Once it is done it lets go of them: they hold on to it by their callbacks, and what they brought
    would stay until the garbage collector finds the circle.
    """

    def __init__(self, steps: Sequence[Future[Any]]) -> None:
        super().__init__()
        self.steps = list(steps)

    def cancel(self) -> bool:
        """Cancel it, and whichever of its steps has not begun."""
        cancelled = super().cancel()
        self._cancel_steps()
        return cancelled

    def go_on_with(self, step: Future[A]) -> None:
        """Become what this last step becomes."""
        self.steps.append(step)
        step.add_done_callback(self._become)
        if self.done():
            self._cancel_steps()

    def succeed(self, result: A) -> None:
        """Have this result, if it has none yet and nobody has cancelled it."""
        with suppress(InvalidStateError):
            self.set_result(result)
        self.steps.clear()

    def fail(self, error: BaseException) -> None:
        """Fail, unless it is done, and cancel the other steps."""
        with suppress(InvalidStateError):
            self.set_exception(error)
        self._cancel_steps()

    def has_failed_with(self, step: Future[Any]) -> bool:
        """Whether a step that is done brings no result; then this has none either."""
        if step.cancelled():
            self.cancel()
            return True
        error = step.exception()
        if error is not None:
            self.fail(error)
        return error is not None

    def _become(self, step: Future[A]) -> None:
        if not self.has_failed_with(step):
            self.succeed(step.result())

    def _cancel_steps(self) -> None:
        steps = self.steps.copy()
        self.steps.clear()
        for step in steps:
            step.cancel()


def then(first: Future[A], begin: Callable[[A], Future[B]]) -> Future[B]:
    """The outcome of what `begin` begins with the result of `first`.

    It is called in the thread that brought the result, which does nothing else until it returns.
    """
    whole = _Whole[B]([first])

    def go_on(done: Future[A]) -> None:
        if whole.has_failed_with(done) or whole.done():
            return
        try:
            whole.go_on_with(begin(done.result()))
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            whole.fail(error)

    first.add_done_callback(go_on)
    return whole


def gather(futures: Sequence[Future[A]]) -> Future[tuple[A, ...]]:
    """All results in their order; once one fails, so does this, and the others are cancelled."""
    whole = _Whole[tuple[A, ...]](futures)

    def note(done: Future[A]) -> None:
        steps = whole.steps.copy()
        if not whole.has_failed_with(done) and steps and all(map(_has_result, steps)):
            whole.succeed(tuple(step.result() for step in steps))

    if not futures:
        whole.succeed(())
    for future in futures:
        future.add_done_callback(note)
    return whole


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def both(first: Future[A], second: Future[B]) -> Future[tuple[A, B]]:
    """Two results; once one fails, so does this, and the other is cancelled."""
    whole: Future[Any] = gather(cast("list[Future[Any]]", [first, second]))
    return cast("Future[tuple[A, B]]", whole)
