"""Time to be ready, and memory."""

from pathlib import Path
from time import sleep

from app.batching import REST_AFTER_S
from benchmarks.effort import Effort
from benchmarks.models import BenchModel
from benchmarks.results import Measured
from benchmarks.server import Memory
from benchmarks.workbench import Workbench, our_server

_REST_S = 1.0
"""Ample for giving memory back."""


def start(model: BenchModel, effort: Effort, folder: Path) -> Measured:
    """Seconds from starting the process until `/readyz` says yes."""
    seconds = []
    for _ in range(effort.starts):
        with our_server(model, folder / f"{model.name}-start.log") as server:
            seconds.append(server.ready_s)
    return Measured.of("start", model.name, seconds)


def memory(bench: Workbench, when_ready: Memory) -> Measured:
    """Of a server that has answered 32 clients at once, and has been quiet since.

    Args:
        bench: the server.
        when_ready: its memory before the first request.
    """
    outcome = bench.closed(bench.ours(), bench.effort.saturated)
    at_end = bench.server.memory()
    with bench.server.awake():
        sleep(REST_AFTER_S + _REST_S)
    after = bench.server.memory()
    details = {
        "resident MB at the end of the load": at_end.resident_mb,
        "anonymous MB": after.anonymous_mb,
        "resident MB when ready": when_ready.resident_mb,
        "anonymous MB when ready": when_ready.anonymous_mb,
    }
    return Measured.of("memory", bench.model.name, [after.resident_mb], details, outcome.faults)
