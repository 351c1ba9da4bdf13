"""Figures of a server that is not saturated: one request at a time, many labels, large photos."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from statistics import median

from benchmarks import words
from benchmarks.load import ClosedLoad, OpenLoad, Outcome, Target
from benchmarks.photos import LARGE, photos
from benchmarks.results import Measured
from benchmarks.stats import Sandwich, interleave, percentile
from benchmarks.words import TEN_LABELS
from benchmarks.workbench import Workbench, classify

MANY_LABELS = 1000
_LARGE_PHOTOS = 4

_ONCE = ClosedLoad(1, warm_up_s=0, least_s=0, least_answers=1, most_s=300)


def one_request(bench: Workbench) -> Measured:
    """One client with labels that are known, over decoding and encoding in this process."""
    faults: Counter[str] = Counter()
    asked = _p50_of(bench, bench.ours(), faults)

    def in_process() -> float:
        times = bench.engine.one_by_one_s(bench.small, bench.effort.answers)
        return 1000 * percentile(times, 50)

    asked()
    rounds = interleave(asked, {"in-process": in_process}, bench.effort.rounds)["in-process"]
    details = {"request p50 ms": _outer(rounds), "in-process p50 ms": _inner(rounds)}
    return Measured.of("one_request", bench.model.name, _ratios(rounds), details, faults)


def large_photo(bench: Workbench) -> Measured:
    """12 megapixels over 640 by 480."""
    faults: Counter[str] = Counter()
    files = photos(_LARGE_PHOTOS, LARGE)
    large = _p50_of(bench, classify(bench.server, files, TEN_LABELS), faults)
    small = _p50_of(bench, bench.ours(), faults)
    rounds = interleave(large, {"small": small}, bench.effort.rounds)["small"]
    details = {
        "12 megapixels p50 ms": _outer(rounds),
        "640 by 480 p50 ms": _inner(rounds),
        "mean MB of the large files": sum(map(len, files)) / len(files) / 1e6,
        "mean kB of the small files": sum(map(len, bench.small)) / len(bench.small) / 1e3,
    }
    return Measured.of("large_photo", bench.model.name, _ratios(rounds), details, faults)


def labels_first(bench: Workbench) -> Measured:
    """A request with labels never seen, over encoding so many in one call in this process."""
    faults: Counter[str] = Counter()
    supply = words.labels()

    def asked() -> float:
        target = classify(bench.server, bench.small[:1], _next(supply))
        return _p50(bench.closed(target, _ONCE), faults)

    def in_process() -> float:
        return 1000 * bench.engine.encode_labels_s(_next(words.labels()))

    rounds = interleave(asked, {"in-process": in_process}, bench.effort.rounds)["in-process"]
    details = {"request ms": _outer(rounds), "in-process ms": _inner(rounds)}
    return Measured.of("labels_first", bench.model.name, _ratios(rounds), details, faults)


def labels_again(bench: Workbench) -> Measured:
    """A request with 1000 labels seen before, over one with ten."""
    faults: Counter[str] = Counter()
    many = classify(bench.server, bench.small, _next(words.labels()))
    bench.closed(many, _ONCE)
    rounds = interleave(
        _p50_of(bench, many, faults),
        {"ten": _p50_of(bench, bench.ours(), faults)},
        bench.effort.rounds,
    )["ten"]
    details = {"1000 labels p50 ms": _outer(rounds), "10 labels p50 ms": _inner(rounds)}
    return Measured.of("labels_again", bench.model.name, _ratios(rounds), details, faults)


def tail(bench: Workbench, saturated_images_per_s: float) -> Measured:
    """p99 over p50 with random arrivals at half of what the server can do."""
    faults: Counter[str] = Counter()
    rate = saturated_images_per_s / 2
    outcomes = [
        bench.open(bench.ours(), OpenLoad(rate, bench.effort.tail_requests, seed))
        for seed in range(bench.effort.rounds)
    ]
    for outcome in outcomes:
        faults.update(outcome.faults)
    details = {
        "arrivals a second": rate,
        "p50 ms": median(outcome.percentile_ms(50) for outcome in outcomes),
        "p99 ms": median(outcome.percentile_ms(99) for outcome in outcomes),
    }
    ratios = [outcome.percentile_ms(99) / outcome.percentile_ms(50) for outcome in outcomes]
    return Measured.of("tail", bench.model.name, ratios, details, faults)


def _next(supply: Iterator[str]) -> list[str]:
    return list(islice(supply, MANY_LABELS))


def _p50_of(bench: Workbench, target: Target, faults: Counter[str]) -> Callable[[], float]:
    return lambda: _p50(bench.closed(target, bench.effort.one_client()), faults)


def _p50(outcome: Outcome, faults: Counter[str]) -> float:
    faults.update(outcome.faults)
    return outcome.percentile_ms(50)


def _ratios(rounds: Sequence[Sandwich[float]]) -> list[float]:
    return [each.ratio(float) for each in rounds]


def _outer(rounds: Sequence[Sandwich[float]]) -> float:
    return median((each.before + each.after) / 2 for each in rounds)


def _inner(rounds: Sequence[Sandwich[float]]) -> float:
    return median(each.between for each in rounds)
