"""Time to be ready, and memory."""

from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.models import BenchModel
from benchmarks.results import Measured
from benchmarks.server import Memory
from benchmarks.workbench import Workbench, our_server


def start(model: BenchModel, effort: Effort, folder: Path) -> Measured:
    """Seconds from starting the process until `/readyz` says yes."""
    seconds = []
    for _ in range(effort.starts):
        with our_server(model, folder / f"{model.name}-start.log") as server:
            seconds.append(server.ready_s)
    return Measured.of("start", model.name, seconds)


def memory(bench: Workbench, when_ready: Memory) -> Measured:
    """Of a server that has answered 32 clients at once.

    Args:
        bench: the server.
        when_ready: its memory before the first request.
    """
    outcome = bench.closed(bench.ours(), bench.effort.saturated)
    after = bench.server.memory()
    details = {
        "anonymous MB": after.anonymous_mb,
        "resident MB when ready": when_ready.resident_mb,
        "anonymous MB when ready": when_ready.anonymous_mb,
    }
    return Measured.of("memory", bench.model.name, [after.resident_mb], details, outcome.faults)
