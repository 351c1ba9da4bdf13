"""The product's engine without a server: what its parts cost when nothing is around them."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from time import perf_counter

from app.clip.labels import DEFAULT_TEMPLATE, fill
from app.engine import Engine, ImageFile, Question
from app.settings import Settings
from benchmarks.bound import Cost

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class InProcess:
    """The engine, loaded as the server loads it: the same precision and threads."""

    def __init__(self, settings: Settings, cores: float) -> None:
        """Load it.

        Args:
            settings: those of the server.
            cores: that may be used.
        """
        self._engine = Engine.load(settings)
        self._cores = cores

    @property
    def description(self) -> dict[str, str]:
        """Precision and threads, as chosen."""
        model = self._engine.model
        return {
            "precision": str(model.dtype).removeprefix("torch."),
            "threads": str(self._engine.threads),
        }

    def one_by_one_s(self, photos: Sequence[bytes], count: int) -> list[float]:
        """Seconds for decoding and one `encode_images`, of one photo after another."""
        times = []
        for file in islice(_files(photos), count):
            start = perf_counter()
            self._engine.model.encode_images([self._engine.decode(file).pixels])
            times.append(perf_counter() - start)
        return times

    def batch_s(self, photos: Sequence[bytes], passes: int) -> dict[int, float]:
        """Seconds for one pass of the image tower over a batch of each size: the best of `passes`.

        The sizes take turns, so that a slow moment of the machine does not meet one alone.
        """
        pixels = [self._engine.decode(file).pixels for file in islice(_files(photos), 32)]
        times: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
        for _ in range(passes):
            for size in BATCH_SIZES:
                start = perf_counter()
                self._engine.model.encode_images(pixels[:size])
                times[size].append(perf_counter() - start)
        return {size: min(found) for size, found in times.items()}

    def cost(self, photos: Sequence[bytes], batch: int, least_s: float) -> Cost:
        """Core-seconds for one image while all cores decode, and then all encode.

        Core-seconds are the time on the clock times the cores that may be used, so that cores
        that share their units, or wait for each other, cost what they cost the server too.

        Args:
            photos: to take turns.
            batch: images in one pass.
            least_s: how long each of the two is repeated.
        """
        return Cost(
            self._decode_core_s(photos, least_s), self._encode_core_s(photos, batch, least_s)
        )

    def _decode_core_s(self, photos: Sequence[bytes], least_s: float) -> float:
        files = _files(photos)
        workers = math.ceil(self._cores)
        done = 0
        with ThreadPoolExecutor(workers) as pool:
            start = perf_counter()
            while (elapsed := perf_counter() - start) < least_s:
                done += len(list(pool.map(self._engine.decode, islice(files, 8 * workers))))
        return elapsed * self._cores / done

    def _encode_core_s(self, photos: Sequence[bytes], batch: int, least_s: float) -> float:
        pixels = [self._engine.decode(file).pixels for file in islice(_files(photos), batch)]
        done = 0
        start = perf_counter()
        while (elapsed := perf_counter() - start) < least_s:
            self._engine.model.encode_images(pixels)
            done += batch
        return elapsed * self._cores / done

    def encode_labels_s(self, labels: Sequence[str]) -> float:
        """Seconds for the prompts of all labels in one call."""
        prompts = [fill(DEFAULT_TEMPLATE, label) for label in labels]
        start = perf_counter()
        self._engine.model.encode_texts(prompts)
        return perf_counter() - start

    def expected(
        self, photos: Sequence[bytes], labels: Sequence[str]
    ) -> tuple[list[Mapping[str, float]], list[Mapping[str, float]]]:
        """For each photo the probability of each label: fused, and by the image alone."""
        fused: list[Mapping[str, float]] = []
        image_alone: list[Mapping[str, float]] = []
        for file in islice(_files(photos), len(photos)):
            found = self._engine.classify([file], Question(labels=labels)).results[0].predictions
            fused.append({p.label: p.probability for p in found})
            image_alone.append({p.label: p.image_probability for p in found})
        return fused, image_alone


def _files(photos: Sequence[bytes]) -> "cycle[ImageFile]":
    return cycle([ImageFile("photo.jpg", photo) for photo in photos])
