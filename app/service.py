"""The engine behind an event loop: images decoded side by side, encoded in batches, answered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import faiss
import torch
from torch import Tensor

from app.batching import Computed, Lane, Worker
from app.clip.blocks import call_before_each_block
from app.engine import (
    Chosen,
    Classification,
    DecodedImage,
    EncodedImages,
    Engine,
    FloatArray,
    Found,
    ImageFile,
    Question,
    Timings,
)
from app.futures import both, gather, then
from app.metrics import Metrics
from app.process import give_memory_back
from app.settings import InferenceEngine, Settings

T = TypeVar("T")

_CLOSE_PATIENCE_S = 5.0
_TEXT_BATCH = 64
_LONGEST_PASS_S = 0.15
"""Of images, while few wait: docs/performance.md says what that is worth."""
_MOST_PARALLEL_BATCHES = 8


class TooSlowError(Exception):
    """A request took longer than it may; the message says how long that is."""


def inference_worker(settings: Settings) -> Worker:
    """The worker that a service computes in, and that its engine is to be loaded in."""
    return Worker("inference", settings.batch_wait_ms / 1000)


class Service:
    """Answers requests without ever blocking the event loop.

    Images are decoded in a small pool. One worker encodes the images and the unknown prompts of all
    requests that wait, a batch of each in turn: a request that is alone has every core for its
    pass, several share them. What follows, the method's two steps, runs in a pool again, or in the
    worker where a request is alone and asks nobody else.
    """

    def __init__(
        self, engine: Engine, settings: Settings, metrics: Metrics, worker: Worker
    ) -> None:
        """Make it ready.

        Args:
            engine: loaded in the worker's thread: each thread that computes has OpenMP threads of
                its own, and once there are more of them than cores, they sleep at every step.
            settings: pools, batches and time limits.
            metrics: told of batches and answers.
            worker: closed together with the service.
        """
        self.engine = engine
        self._request_timeout_s = settings.request_timeout_s
        self._stuck_after_s = settings.stuck_after_s
        self._metrics = metrics
        self.decode_threads = settings.decode_threads or engine.threads
        self._decoders = ThreadPoolExecutor(self.decode_threads, "decode", _compute_on, (1,))
        self._answerers = ThreadPoolExecutor(engine.threads, "answer", _compute_on, (1,))
        self._images = Lane[Tensor, FloatArray](
            lambda pixels: list(engine.model.encode_images(pixels)),
            settings.batch_size,
            metrics.batches("image"),
            _LONGEST_PASS_S,
        )
        self._prompts = Lane(engine.labels.encode, _TEXT_BATCH, metrics.batches("text"))
        self._texts = Lane[str, FloatArray](
            lambda texts: list(engine.model.encode_texts(texts)),
            _TEXT_BATCH,
            metrics.batches("text"),
        )
        self._worker = worker
        self._under_way = 0
        self._decoding: set[Future[tuple[DecodedImage, ...]]] = set()
        self.parallel_batches = _parallel_batches(engine, settings)
        worker.serve(
            [self._images, self._prompts, self._texts],
            self.parallel_batches,
            self._is_crowded,
            self._take_share_of_cores,
            give_memory_back,
        )
        self._leave_blocks = call_before_each_block(engine.model.network, self._take_share_of_cores)
        metrics.watch_waiting("image", [self._images])
        metrics.watch_waiting("text", [self._prompts, self._texts])

    async def classify(self, files: Sequence[ImageFile], question: Question) -> Classification:
        """Decode the images side by side, encode them and the labels, then answer.

        Work whose request was cancelled or ran out of time is not begun; what is begun ends with
        the batch at hand.

        Raises:
            BadImageError: one of the images cannot be used.
            TooSlowError: waiting and computing took longer than a request may.
            UnknownCollectionError: the question names a collection that is not open.
            CollectionAwayError: the collection does not answer, and requests are to be refused.
        """
        chosen = self.engine.choose(question.index)
        async with self._request():
            answer = await asyncio.wrap_future(self._classify(files, question, chosen))
        self._metrics.observe(answer)
        return answer

    async def search(self, query: ImageFile | str, k: int, index: str | None) -> Found:
        """The captions nearest to an image or a text.

        Raises:
            BadImageError: the image cannot be used.
            TooSlowError: waiting and computing took longer than a request may.
            UnknownCollectionError: no collection of this name is open.
            CollectionAwayError: the collection does not answer.
        """
        chosen = self.engine.choose(index)
        async with self._request():
            return await asyncio.wrap_future(self._search(query, k, chosen))

    async def reload(self) -> None:
        """Swap the collections for what lies in their places now; requests go on meanwhile.

        Raises:
            ReloadError: one of them is bad; the old ones go on serving.
        """
        await asyncio.to_thread(self.engine.reload)

    def _classify(
        self, files: Sequence[ImageFile], question: Question, chosen: Chosen
    ) -> Future[Classification]:
        labels = self.engine.labels
        sought = labels.look_up(question.labels, question.templates)
        decoding = self._decode(files, question.crops)
        encoding = both(decoding, then(decoding, self._encode))
        embedding = self._worker.submit(self._prompts, sought.missing)

        def answer(
            images: Sequence[DecodedImage],
            views: Computed[FloatArray],
            prompts: Computed[FloatArray],
        ) -> Classification:
            timings = Timings(
                decode_ms=sum(image.decode_ms for image in images),
                encode_ms=1000 * (views.seconds + prompts.seconds),
            )
            encoded = EncodedImages.of(images, views.rows, timings)
            w = labels.combine(sought, prompts.rows)
            return self.engine.answer(encoded, w, question, chosen)

        return then(
            both(encoding, embedding),
            lambda found: self._finish(chosen, lambda: answer(*found[0], found[1])),
        )

    def _search(self, query: ImageFile | str, k: int, chosen: Chosen) -> Future[Found]:
        if isinstance(query, str):
            encoding = self._worker.submit(self._texts, [query])
        else:
            encoding = then(self._decode([query]), self._encode)
        search = self.engine.search
        return then(encoding, lambda v: self._finish(chosen, lambda: search(v.rows[0], k, chosen)))

    def _decode(
        self, files: Sequence[ImageFile], crops: bool = False
    ) -> Future[tuple[DecodedImage, ...]]:
        decoding = gather(
            [
                self._decoders.submit(self.engine.decode, file, position, crops)
                for position, file in enumerate(files)
            ]
        )
        self._decoding.add(decoding)
        decoding.add_done_callback(self._decoding.discard)
        return decoding

    def _encode(self, images: Sequence[DecodedImage]) -> Future[Computed[FloatArray]]:
        return self._worker.submit(self._images, [view for image in images for view in image.views])

    def _finish(self, chosen: Chosen, step: Callable[[], T]) -> Future[T]:
        """Take a request's last step, which searches: in this thread unless others may need it."""
        if self._is_crowded() or not chosen.collection.is_here:
            return self._answerers.submit(step)
        done = Future[T]()
        done.set_result(step())
        return done

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
        self._leave_blocks()
        self._decoders.shutdown(wait=True, cancel_futures=True)
        done = self._worker.close(_CLOSE_PATIENCE_S)
        self._answerers.shutdown(wait=True, cancel_futures=True)
        return done

    def _is_crowded(self) -> bool:
        return self._under_way > 1

    def _take_share_of_cores(self) -> None:
        """Let the calling thread, one of the worker's, compute on as many cores as it may now.

        Asked again before each block of a pass: one that began with every core makes room for the
        next, since two threads that wait for each other, with a third on their cores, hardly move.
        Only the worker's first thread ever has more than its part. Each thread that computes has
        OpenMP threads of its own, and all sleep at every step once there are too many of them.
        """
        threads = part = self.engine.threads // self.parallel_batches
        if self._worker.is_first_thread:
            busy = min(self._worker.passes + len(self._decoding), self.parallel_batches)
            threads = self.engine.threads - max(0, busy - 1) * part
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[None]:
        """One request more is under way, for as long as it may take."""
        self._under_way += 1
        try:
            async with asyncio.timeout(self._request_timeout_s) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TooSlowError(
                f"The request took longer than {self._request_timeout_s:g} seconds."
            ) from error
        finally:
            self._under_way -= 1


def _parallel_batches(engine: Engine, settings: Settings) -> int:
    """How many batches at once; a GPU, and ONNX Runtime's own threads, want one after another."""
    if engine.model.device.type != "cpu" or engine.model.engine is InferenceEngine.ONNX:
        return 1
    if settings.parallel_batches:
        return min(engine.threads, settings.parallel_batches)
    return engine.threads // -(-engine.threads // _MOST_PARALLEL_BATCHES)


def _compute_on(threads: int) -> None:
    """Let torch and FAISS compute on so many threads whenever the calling thread asks them to.

    Otherwise each thread of a pool would make as many more as there are cores.
    """
    # When a thread computes for the first time, torch gives it the number that any thread set
    # last. To ask for the number counts as that first time.
    torch.get_num_threads()
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
