"""What the service tells Prometheus, under names that begin with `xmore_`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from app.clip.labels import LabelEncoder
from app.engine import Classification
from app.index.catalog import Catalog

_STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class Queue(Protocol):
    """What is measured of the requests under way."""

    depth: int
    held_bytes: int


class Waiting(Protocol):
    """What is measured of the work that waits."""

    @property
    def waiting(self) -> int:
        """Items not yet computed."""
        ...


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "xmore_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self._errors = Counter(
            "xmore_errors", "Requests that failed, by kind.", ("kind",), registry=self.registry
        )
        self._request_seconds = Histogram(
            "xmore_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "xmore_stage_seconds",
            "Time of a request in each stage.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        self._degraded = Counter(
            "xmore_degraded",
            "Answers without captions because their collection did not answer.",
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "xmore_batch_size",
            "Images, or texts, that one pass of a tower encoded.",
            ("tower",),
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._waiting = Gauge(
            "xmore_waiting",
            "Images, or texts, that wait for a tower or are being encoded.",
            ("tower",),
            registry=self.registry,
        )

    def count(self, route: str, status: int, seconds: float, kind: str | None) -> None:
        """One request was answered; `kind` says what was wrong with it, None for nothing."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)
        if kind is not None:
            self._errors.labels(kind).inc()

    def observe(self, answer: Classification) -> None:
        """One request was computed."""
        timings = answer.timings
        if answer.degraded:
            self._degraded.inc()
        for stage, milliseconds in (
            ("decode", timings.decode_ms),
            ("encode", timings.encode_ms),
            ("retrieve", timings.retrieve_ms),
            ("fuse", timings.fuse_ms),
        ):
            self._stage_seconds.labels(stage).observe(milliseconds / 1000)

    def batches(self, tower: str) -> Callable[[int], None]:
        """To be told the size of each batch of a tower."""
        return self._batch_size.labels(tower).observe

    def watch_waiting(self, tower: str, lanes: Sequence[Waiting]) -> None:
        """Read what waits for a tower whenever the metrics are."""
        self._waiting.labels(tower).set_function(lambda: sum(lane.waiting for lane in lanes))

    def watch_queue(self, queue: Queue) -> None:
        """Read the queue whenever the metrics are."""
        depth = Gauge("xmore_queue_depth", "Requests under way.", registry=self.registry)
        depth.set_function(lambda: queue.depth)
        held_bytes = Gauge(
            "xmore_queue_bytes", "Body bytes of the requests under way.", registry=self.registry
        )
        held_bytes.set_function(lambda: queue.held_bytes)

    def watch_labels(self, labels: LabelEncoder) -> None:
        """Read the label cache whenever the metrics are."""
        self.registry.register(_LabelCache(labels))

    def watch_collections(self, catalog: Catalog) -> None:
        """Read which collections answer whenever the metrics are."""
        self.registry.register(_Collections(catalog))


class _Collections(Collector):
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One value a collection, by the name that it is served by."""
        up = GaugeMetricFamily(
            "xmore_index_up",
            "Whether the caption collection answers: 0 while its Milvus does not.",
            labels=("index",),
        )
        for name, collection in self._catalog.collections.items():
            up.add_metric((name,), 1 if collection.away is None else 0)
        yield up


class _LabelCache(Collector):
    def __init__(self, labels: LabelEncoder) -> None:
        self._labels = labels

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The two counters that the cache keeps itself."""
        yield CounterMetricFamily(
            "xmore_label_cache_hits", "Prompts found in the cache.", self._labels.hits
        )
        yield CounterMetricFamily(
            "xmore_label_cache_misses", "Prompts that were encoded.", self._labels.misses
        )
