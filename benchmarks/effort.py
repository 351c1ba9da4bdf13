"""How long each figure is measured."""

from dataclasses import dataclass

from benchmarks.load import ClosedLoad

CLIENTS = 32


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often.

    Attributes:
        rounds: pairs of measurements for each ratio.
        answers: requests for the p50 of one client, each time.
        saturated: the load of many clients.
        tail_requests: arrivals of the open load, each time.
        starts: how often the server is started to time it.
        cost_s: seconds for each half of the cost of an image.
        clients: of the plot.
        passes: how often the plot is measured.
    """

    rounds: int
    answers: int
    saturated: ClosedLoad
    tail_requests: int
    starts: int
    cost_s: float
    clients: tuple[int, ...]
    passes: int

    def one_client(self) -> ClosedLoad:
        """One request at a time."""
        return ClosedLoad(1, warm_up_s=2, least_s=0, least_answers=self.answers, most_s=60)

    def many_clients(self, clients: int) -> ClosedLoad:
        """As `saturated`, with another number of clients."""
        s = self.saturated
        answers = max(20, s.least_answers * clients // s.clients)
        return ClosedLoad(clients, s.warm_up_s, s.least_s, answers, s.most_s)


QUICK = Effort(
    rounds=3,
    answers=12,
    saturated=ClosedLoad(CLIENTS, warm_up_s=3, least_s=4, least_answers=64, most_s=20),
    tail_requests=100,
    starts=2,
    cost_s=1.0,
    clients=(1, 4, 16, 64),
    passes=1,
)

FULL = Effort(
    rounds=7,
    answers=20,
    saturated=ClosedLoad(CLIENTS, warm_up_s=5, least_s=10, least_answers=160, most_s=45),
    tail_requests=400,
    starts=5,
    cost_s=3.0,
    clients=(1, 2, 4, 8, 16, 32, 64),
    passes=3,
)
