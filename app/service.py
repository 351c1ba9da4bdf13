"""The engine behind an event loop: decoding in a small pool, inference in one worker thread."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from app.engine import Classification, Engine, Found, ImageFile, Question

T = TypeVar("T")


class Service:
    """Answers requests without ever blocking the event loop.

    One inference worker, because the model's own threads already use every core: two forward
    passes at once would only wait for each other.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._decoders = ThreadPoolExecutor(engine.threads, thread_name_prefix="decode")
        self._worker = ThreadPoolExecutor(
            1,
            thread_name_prefix="inference",
            # torch keeps its number of threads per calling thread.
            initializer=torch.set_num_threads,
            initargs=(engine.threads,),
        )

    async def classify(self, files: Sequence[ImageFile], question: Question) -> Classification:
        """Decode the images side by side, then answer.

        Raises:
            BadImageError: one of the images cannot be used.
        """
        images = await asyncio.gather(
            *(
                self._run(self._decoders, partial(self.engine.decode, file, position))
                for position, file in enumerate(files)
            )
        )
        return await self._run(self._worker, partial(self.engine.answer, images, question))

    async def search(self, query: ImageFile | str, k: int, index: str | None) -> Found:
        """The captions nearest to an image or a text.

        Raises:
            BadImageError: the image cannot be used.
            UnknownCollectionError: no collection of this name is open.
        """
        if isinstance(query, str):
            return await self._run(self._worker, partial(self.engine.search, query, k, index))
        image = await self._run(self._decoders, partial(self.engine.decode, query))
        return await self._run(self._worker, partial(self.engine.search, image, k, index))

    async def reload(self) -> None:
        """Swap the collections for what their directories hold now; requests go on meanwhile.

        Raises:
            ReloadError: one of them is bad; the old ones go on serving.
        """
        await asyncio.to_thread(self.engine.reload)

    async def is_alive(self, patience: float = 30.0) -> bool:
        """Whether the inference worker takes work; False if it is stuck for `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                return await self._run(self._worker, lambda: True)
        except (TimeoutError, RuntimeError):
            return False

    def close(self) -> None:
        """Finish the work that was accepted, take no more."""
        self._decoders.shutdown(wait=True)
        self._worker.shutdown(wait=True)

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)
