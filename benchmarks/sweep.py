"""Throughput and latency against the number of clients."""

from statistics import median

from benchmarks.load import Outcome
from benchmarks.results import SweepPoint
from benchmarks.words import TEN_LABELS
from benchmarks.workbench import Workbench, classify, our_server

_ROOM = "1000"
"""Requests that the server lets in: the default turns away what 64 clients ask."""


def sweep(bench: Workbench) -> list[SweepPoint]:
    """Each number of clients, up and down in turns."""
    effort = bench.effort
    found: dict[int, list[Outcome]] = {clients: [] for clients in effort.clients}
    log = bench.folder / f"{bench.model.name}-sweep.log"
    with our_server(bench.model, log, XMORE_MAX_QUEUE=_ROOM) as server:
        target = classify(server, bench.small, TEN_LABELS, bench.fused)
        for number in range(effort.passes):
            for clients in effort.clients[:: -1 if number % 2 else 1]:
                found[clients].append(bench.load.closed(target, effort.many_clients(clients)))
    return [
        SweepPoint(
            model=bench.model.name,
            clients=clients,
            images_per_s=median(outcome.images_per_s for outcome in outcomes),
            p50_ms=median(outcome.percentile_ms(50) for outcome in outcomes),
            p99_ms=median(outcome.percentile_ms(99) for outcome in outcomes),
        )
        for clients, outcomes in found.items()
    ]
