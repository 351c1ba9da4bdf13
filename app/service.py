"""The engine behind an event loop: decoding in a small pool, inference in one worker thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from threading import Event
from typing import TypeVar

import torch

from app.engine import Classification, DecodedImage, Engine, Found, ImageFile, Question
from app.metrics import Metrics
from app.settings import Settings
from app.worker import Worker

T = TypeVar("T")

_CLOSE_PATIENCE_S = 5.0


class TooSlowError(Exception):
    """A request took longer than it may; the message says how long that is."""


class Service:
    """Answers requests without ever blocking the event loop.

    One inference worker, because the model's own threads already use every core: two forward
    passes at once would only wait for each other.
    """

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.engine = engine
        self._request_timeout_s = settings.request_timeout_s
        self._stuck_after_s = settings.stuck_after_s
        self._metrics = metrics
        self._decoders = ThreadPoolExecutor(engine.threads, thread_name_prefix="decode")
        # torch keeps its number of threads per calling thread.
        self._worker = Worker("inference", partial(torch.set_num_threads, engine.threads))

    async def classify(self, files: Sequence[ImageFile], question: Question) -> Classification:
        """Decode the images side by side, then answer.

        Work whose request was cancelled or ran out of time is not begun, and long text encoding
        stops early.

        Raises:
            BadImageError: one of the images cannot be used.
            TooSlowError: waiting and computing took longer than a request may.
        """
        abandoned = Event()
        try:
            async with self._time_limit():
                images = await self._decode(files)
                answer = await self._run(
                    self._worker.submit,
                    partial(self.engine.answer, images, question, abandoned.is_set),
                )
        finally:
            abandoned.set()
        self._metrics.observe(answer)
        return answer

    async def search(self, query: ImageFile | str, k: int, index: str | None) -> Found:
        """The captions nearest to an image or a text.

        Raises:
            BadImageError: the image cannot be used.
            TooSlowError: waiting and computing took longer than a request may.
            UnknownCollectionError: no collection of this name is open.
        """
        async with self._time_limit():
            sought = query if isinstance(query, str) else (await self._decode([query]))[0]
            return await self._run(
                self._worker.submit, partial(self.engine.search, sought, k, index)
            )

    async def reload(self) -> None:
        """Swap the collections for what their directories hold now; requests go on meanwhile.

        Raises:
            ReloadError: one of them is bad; the old ones go on serving.
        """
        await asyncio.to_thread(self.engine.reload)

    async def _decode(self, files: Sequence[ImageFile]) -> list[DecodedImage]:
        decoding = [
            self._run(self._decoders.submit, partial(self.engine.decode, file, position))
            for position, file in enumerate(files)
        ]
        try:
            return await asyncio.gather(*decoding)
        finally:
            # One bad image, and the others need not be decoded.
            for image in decoding:
                image.cancel()

    def fault(self) -> str | None:
        """Why no inference is to be expected of this process, or None where it works."""
        if not self._worker.is_alive:
            return "The inference worker has ended."
        if self._worker.busy_s > self._stuck_after_s:
            return (
                "The inference worker has been busy with one computation for "
                f"{self._worker.busy_s:.0f} seconds."
            )
        return None

    def close(self) -> bool:
        """Finish the work that was accepted, take no more; False if the worker is stuck."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
        return self._worker.close(_CLOSE_PATIENCE_S)

    @asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._request_timeout_s) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TooSlowError(
                f"The request took longer than {self._request_timeout_s:g} seconds."
            ) from error

    @staticmethod
    def _run(
        submit: Callable[[Callable[[], T]], Future[T]], call: Callable[[], T]
    ) -> asyncio.Future[T]:
        return asyncio.wrap_future(submit(call))
