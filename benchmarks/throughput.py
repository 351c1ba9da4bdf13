"""Figures of a server with 32 clients: against the bound, a plain service, and infinity-emb."""

import base64
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from app.settings import ROOT
from benchmarks import infinity
from benchmarks.answers import TopLabel, UnitEmbedding, acceptable
from benchmarks.bound import Cost, best_batch, bound
from benchmarks.load import Outcome, Target
from benchmarks.results import FigureName, Measured
from benchmarks.server import ServerError, ServerProcess, serving
from benchmarks.stats import Sandwich, interleave
from benchmarks.words import TEN_LABELS
from benchmarks.workbench import Workbench, form_target

_BATCH_PASSES = 3
_PLAIN: Mapping[FigureName, Sequence[str]] = {"plain": (), "plain_cached": ("--cache-labels",)}
"""The plain service's options."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a round found: of a server, or of the parts in this process."""

    outcome: Outcome | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """What 32 clients got.

    Attributes:
        images_per_s: of our server, median.
        measured: the figures.
        left_out: what could not be measured, and why.
    """

    images_per_s: float
    measured: list[Measured]
    left_out: list[str]


def throughput(
    bench: Workbench, figures: Sequence[FigureName], infinity_programs: Path | None
) -> Throughput:
    """Our server in turns with each of the others; what is not measured is suspended.

    Args:
        bench: the model and its server.
        figures: which of `bound`, `plain`, `plain_cached` and `infinity`.
        infinity_programs: where infinity-emb is installed; None to leave it out.
    """
    batch = best_batch(bench.engine.batch_s(bench.small, _BATCH_PASSES))
    others: dict[FigureName, Callable[[], _Reading]] = {}
    left_out: list[str] = []
    with ExitStack() as stack:
        if "bound" in figures:
            others["bound"] = lambda: _Reading(
                cost=bench.engine.cost(bench.small, batch, bench.effort.cost_s)
            )
        for name, options in _PLAIN.items():
            if name in figures:
                server = stack.enter_context(_plain_server(bench, name, options))
                others[name] = _saturate(bench, server, _plain_target(bench, server))
        if "infinity" in figures and infinity_programs and bench.model.shape:
            try:
                server = stack.enter_context(_infinity_server(bench, infinity_programs))
            except (infinity.InfinityError, ServerError) as error:
                left_out.append(f"infinity-emb with {bench.model.name}: {error}")
            else:
                others["infinity"] = _saturate(bench, server, _infinity_target(bench, server))
        ours = _saturate(bench, bench.server, bench.ours())
        if not others:
            return Throughput(_images_per_s(ours()), [], left_out)
        rounds = interleave(ours, others, bench.effort.rounds)
    measured = [_compared(bench, name, rounds[name]) for name in others if name != "bound"]
    if "bound" in rounds:
        measured.insert(0, _against_bound(bench, rounds["bound"], batch))
    saturated = median(_outer(each) for found in rounds.values() for each in found)
    return Throughput(saturated, measured, left_out)


def _saturate(bench: Workbench, server: ServerProcess, target: Target) -> Callable[[], _Reading]:
    def measure() -> _Reading:
        with server.awake():
            return _Reading(outcome=bench.load.closed(target, bench.effort.saturated))

    return measure


def _compared(bench: Workbench, name: FigureName, rounds: Sequence[Sandwich[_Reading]]) -> Measured:
    details = {
        "images/s": median(_outer(each) for each in rounds),
        "theirs images/s": median(_images_per_s(each.between) for each in rounds),
        "theirs p50 ms": median(_outcome(each.between).percentile_ms(50) for each in rounds),
    }
    return Measured.of(
        name,
        bench.model.name,
        [each.ratio(_images_per_s) for each in rounds],
        details,
        _faults(rounds),
    )


def _against_bound(bench: Workbench, rounds: Sequence[Sandwich[_Reading]], batch: int) -> Measured:
    """Against the cores that the load generator left to the server."""

    def share(each: Sandwich[_Reading], *, corrected: bool) -> float:
        limits = [
            bound(
                bench.cores,
                _cost(each.between),
                outcome.client_cpu_s if corrected else 0.0,
                outcome.seconds,
            )
            for outcome in (_outcome(each.before), _outcome(each.after))
        ]
        return _outer(each) / (sum(limits) / len(limits))

    outcomes = [_outcome(each.after) for each in rounds]
    costs = [_cost(each.between) for each in rounds]
    details = {
        "images/s": median(_outer(each) for each in rounds),
        "bound images/s": median(bound(bench.cores, cost) for cost in costs),
        "ratio without correction": median(share(each, corrected=False) for each in rounds),
        "decode core-ms": 1000 * median(cost.decode_core_s for cost in costs),
        "encode core-ms": 1000 * median(cost.encode_core_s for cost in costs),
        "best batch": float(batch),
        "cores of the load generator": median(o.client_cpu_s / o.seconds for o in outcomes),
        "cores of the server": median(o.server_cpu_s / o.seconds for o in outcomes),
        "p50 ms": median(o.percentile_ms(50) for o in outcomes),
        "p99 ms": median(o.percentile_ms(99) for o in outcomes),
    }
    ratios = [share(each, corrected=True) for each in rounds]
    return Measured.of("bound", bench.model.name, ratios, details, _faults(rounds))


def _outcome(reading: _Reading) -> Outcome:
    if reading.outcome is None:
        raise TypeError("not a reading of a server")
    return reading.outcome


def _cost(reading: _Reading) -> Cost:
    if reading.cost is None:
        raise TypeError("not a reading of the engine")
    return reading.cost


def _images_per_s(reading: _Reading) -> float:
    return _outcome(reading).images_per_s


def _outer(each: Sandwich[_Reading]) -> float:
    return (_images_per_s(each.before) + _images_per_s(each.after)) / 2


def _faults(rounds: Sequence[Sandwich[_Reading]]) -> Mapping[str, int]:
    faults: Counter[str] = Counter()
    for each in rounds:
        for reading in (each.before, each.between, each.after):
            faults.update(reading.outcome.faults if reading.outcome else {})
    return faults


@contextmanager
def _plain_server(bench: Workbench, name: str, options: Sequence[str]) -> Iterator[ServerProcess]:
    command = [sys.executable, "-m", "benchmarks.plain_service", "--model", bench.model.model]
    log = bench.folder / f"{bench.model.name}-{name}.log"
    with serving(
        [*command, "--port", "PORT", *options], "/readyz", os.environ, ROOT, log
    ) as server:
        server.suspend()
        yield server


def _plain_target(bench: Workbench, server: ServerProcess) -> Target:
    check = TopLabel((0, "label"), acceptable(bench.image_alone))
    return form_target(server, "/classify", bench.small, {"labels": list(TEN_LABELS)}, check)


@contextmanager
def _infinity_server(bench: Workbench, programs: Path) -> Iterator[ServerProcess]:
    if bench.model.shape is None:
        raise TypeError(f"{bench.model.name} is no architecture of transformers")
    directory = bench.folder / f"{bench.model.name}-infinity"
    infinity.make_model(programs, bench.model.shape, directory)
    command, environment = infinity.command(programs, directory), infinity.environment()
    log = bench.folder / f"{bench.model.name}-infinity.log"
    with serving(command, "/health", environment, bench.folder, log) as server:
        server.suspend()
        yield server


def _infinity_target(bench: Workbench, server: ServerProcess) -> Target:
    def body(photo: bytes) -> bytes:
        uri = f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"
        asked = {"model": infinity.MODEL_NAME, "modality": "image", "input": [uri]}
        return json.dumps(asked).encode()

    if bench.model.shape is None:
        raise TypeError(f"{bench.model.name} is no architecture of transformers")
    dim = json.loads(bench.model.shape.read_text())["embed_dim"]
    return Target(
        f"{server.url}/embeddings",
        "application/json",
        tuple(body(photo) for photo in bench.small),
        UnitEmbedding(dim),
        server.pid,
    )
