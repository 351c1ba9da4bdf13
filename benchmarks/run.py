"""Measure the chosen figures of the chosen models, one model after the other."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import footprint, infinity, latency
from benchmarks.effort import Effort
from benchmarks.load import LoadGenerator
from benchmarks.machine import describe
from benchmarks.models import BenchModel, prepare
from benchmarks.results import FigureName, Measured, Results, SweepPoint
from benchmarks.sweep import sweep
from benchmarks.throughput import throughput
from benchmarks.workbench import Workbench, workbench

Say = Callable[[str], None]

_AGAINST_OTHERS: tuple[FigureName, ...] = ("bound", "plain", "plain_cached", "infinity")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure.

    Attributes:
        models: by name.
        figures: by name.
        plot: whether to go through the numbers of clients.
        effort: how long.
        mode: the effort's name.
        cache: where infinity-emb's virtual environment is kept.
    """

    models: Sequence[str]
    figures: Sequence[FigureName]
    plot: bool
    effort: Effort
    mode: str
    cache: Path


@dataclass(slots=True)
class _Found:
    """What a run has found so far."""

    models: dict[str, dict[str, str]] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    sweep: list[SweepPoint] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def run(wanted: Wanted, say: Say) -> Results:
    """Measure everything that is wanted.

    Args:
        wanted: what.
        say: told what is being done.
    """
    started = datetime.now(UTC).isoformat(timespec="minutes")
    found = _Found()
    programs = _infinity_programs(wanted, found, say)
    with TemporaryDirectory() as folder, LoadGenerator() as load:
        for name in wanted.models:
            say(f"{name}: model and collection")
            model = prepare(name, Path(folder))
            if "infinity" in wanted.figures and model.shape is None:
                found.left_out.append(
                    f"infinity-emb with {name}: transformers has no such architecture."
                )
            _measure(wanted, model, Path(folder), load, programs, found, say)
    return Results(
        machine=describe(),
        models=found.models,
        mode=wanted.mode,
        started=started,
        measured=found.measured,
        sweep=found.sweep,
        left_out=found.left_out,
    )


def _infinity_programs(wanted: Wanted, found: _Found, say: Say) -> Path | None:
    if "infinity" not in wanted.figures or set(wanted.models) == {"mini"}:
        return None
    say("infinity-emb: its virtual environment (some minutes, once)")
    try:
        return infinity.install(wanted.cache / "infinity-emb")
    except infinity.InfinityError as error:
        found.left_out.append(f"infinity-emb cannot be installed: {error}")
        return None


def _measure(
    wanted: Wanted,
    model: BenchModel,
    folder: Path,
    load: LoadGenerator,
    programs: Path | None,
    found: _Found,
    say: Say,
) -> None:
    """All figures of one model. Memory comes first, while the server is fresh."""
    if "start" in wanted.figures:
        say(f"{model.name}: start")
        found.measured.append(footprint.start(model, wanted.effort, folder))
    with ExitStack() as stack:
        bench = stack.enter_context(workbench(model, wanted.effort, folder, load))
        found.models[model.name] = bench.engine.description
        if "memory" in wanted.figures:
            say(f"{model.name}: memory")
            found.measured.append(footprint.memory(bench, bench.server.memory()))
        found.measured += _unsaturated(bench, wanted.figures, say)
        _saturated(bench, wanted.figures, programs, found, say)
        if wanted.plot:
            say(f"{model.name}: from {wanted.effort.clients[0]} client to many")
            found.sweep += sweep(bench)


def _unsaturated(bench: Workbench, figures: Sequence[FigureName], say: Say) -> list[Measured]:
    known: dict[FigureName, Callable[[Workbench], Measured]] = {
        "one_request": latency.one_request,
        "labels_first": latency.labels_first,
        "labels_again": latency.labels_again,
        "large_photo": latency.large_photo,
    }
    measured = []
    for name, measure in known.items():
        if name in figures:
            say(f"{bench.model.name}: {name}")
            measured.append(measure(bench))
    return measured


def _saturated(
    bench: Workbench,
    figures: Sequence[FigureName],
    programs: Path | None,
    found: _Found,
    say: Say,
) -> None:
    others = [name for name in _AGAINST_OTHERS if name in figures]
    if not others and "tail" not in figures:
        return
    say(f"{bench.model.name}: {', '.join(others) or 'saturation'}")
    reached = throughput(bench, others, programs)
    found.measured += reached.measured
    found.left_out += reached.left_out
    if "tail" in figures:
        say(f"{bench.model.name}: tail")
        found.measured.append(latency.tail(bench, reached.images_per_s))
