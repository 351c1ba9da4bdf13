"""The load: a process of its own that asks, times, checks the answers, and knows its CPU time.

On a small machine its CPU time is taken from the server, so bodies are made beforehand, and
aiohttp, which parses in C, does the asking.
"""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Self

import aiohttp
import numpy as np
import psutil

from benchmarks.answers import Check
from benchmarks.stats import percentile, rate

_TIMEOUT_S = 300.0
_LOOK_EVERY_S = 0.02
_RETRY_AFTER_S = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of whom.

    Attributes:
        url: of the route.
        content_type: of all bodies.
        bodies: whole request bodies, one a photo.
        check: of the answers.
        pid: of the server, whose CPU time is taken too.
    """

    url: str
    content_type: str
    bodies: tuple[bytes, ...]
    check: Check
    pid: int


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """Clients that each ask again as soon as they are answered.

    Attributes:
        clients: how many.
        warm_up_s: at most so long, or until each was answered twice, nothing is measured.
        least_s: shortest window.
        least_answers: the window goes on until so many came.
        most_s: longest window.
    """

    clients: int
    warm_up_s: float
    least_s: float
    least_answers: int
    most_s: float


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Requests that arrive on their own, at random, however long the answers take.

    Attributes:
        rate: mean arrivals a second.
        count: how many arrive.
        seed: of the arrival times.
    """

    rate: float
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load, within the window.

    Attributes:
        seconds: length of the window.
        images_per_s: right answers a second.
        latencies_s: of each right answer; in an open load from the moment that the request was
            due, so that a client that waits for the server does not flatter it.
        client_cpu_s: CPU time of the load itself.
        server_cpu_s: CPU time of the server.
        faults: kind of fault to how often.
    """

    seconds: float
    images_per_s: float
    latencies_s: tuple[float, ...]
    client_cpu_s: float
    server_cpu_s: float
    faults: dict[str, int]

    def percentile_ms(self, percent: float) -> float:
        """Of the latencies, in milliseconds."""
        return 1000 * percentile(self.latencies_s, percent)


@dataclass(frozen=True, slots=True)
class _Answer:
    start: float
    end: float
    fault: str | None


class _CpuClock:
    """CPU seconds of this process and of the server since it was made."""

    def __init__(self, server_pid: int) -> None:
        self._processes = psutil.Process(), psutil.Process(server_pid)
        self._before = self._now()

    def _now(self) -> tuple[float, ...]:
        times = (process.cpu_times() for process in self._processes)
        return tuple(t.user + t.system for t in times)

    def read(self) -> tuple[float, ...]:
        """Client, server."""
        return tuple(now - then for now, then in zip(self._now(), self._before, strict=True))


async def _ask(
    session: aiohttp.ClientSession, target: Target, number: int, start: float
) -> _Answer:
    """One request, whose latency counts from `start` until its answer was read, not yet checked."""
    photo = number % len(target.bodies)
    headers = {"Content-Type": target.content_type}
    try:
        async with session.post(target.url, data=target.bodies[photo], headers=headers) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        return _Answer(start, perf_counter(), type(error).__name__)
    end = perf_counter()
    if response.status != 200:
        return _Answer(start, end, f"status {response.status}")
    return _Answer(start, end, None if target.check(photo, body) else "wrong answer")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(_TIMEOUT_S)
    )


async def run_closed(target: Target, load: ClosedLoad) -> Outcome:
    """Ask with so many clients; requests under way at the end are waited for, but not counted."""
    answers: list[_Answer] = []
    going_on = True

    async def client(number: int) -> None:
        while going_on:
            answer = await _ask(session, target, number, perf_counter())
            answers.append(answer)
            number += load.clients
            if answer.fault:
                await asyncio.sleep(_RETRY_AFTER_S)

    async with _session() as session:
        begin = perf_counter()
        clients = [asyncio.create_task(client(number)) for number in range(load.clients)]
        await _until(
            lambda: perf_counter() - begin >= load.warm_up_s or len(answers) >= 2 * load.clients
        )
        cpu, start, before = _CpuClock(target.pid), perf_counter(), len(answers)
        await _until(
            lambda: (
                perf_counter() - start >= load.most_s
                or (
                    perf_counter() - start >= load.least_s
                    and len(answers) - before >= load.least_answers
                )
            )
        )
        end = perf_counter()
        cpu_s = cpu.read()
        going_on = False
        await asyncio.gather(*clients)
    return _outcome([a for a in answers if start <= a.end <= end], start, end, cpu_s)


async def run_open(target: Target, load: OpenLoad) -> Outcome:
    """Ask at the times of a Poisson process, then wait for all answers."""
    gaps = np.random.default_rng(load.seed).exponential(1 / load.rate, load.count)

    async def request(number: int, due: float) -> _Answer:
        await asyncio.sleep(due - perf_counter())
        return await _ask(session, target, number, due)

    async with _session() as session:
        cpu, start = _CpuClock(target.pid), perf_counter()
        due = start + np.cumsum(gaps)
        answers = await asyncio.gather(*(request(i, float(at)) for i, at in enumerate(due)))
        return _outcome(answers, start, perf_counter(), cpu.read())


async def _until(done: Callable[[], bool]) -> None:
    while not done():  # noqa: ASYNC110 - no event tells that a time has come
        await asyncio.sleep(_LOOK_EVERY_S)


def _outcome(answers: list[_Answer], start: float, end: float, cpu_s: tuple[float, ...]) -> Outcome:
    right = [answer for answer in answers if answer.fault is None]
    client_cpu_s, server_cpu_s = cpu_s
    return Outcome(
        seconds=end - start,
        images_per_s=rate([answer.end for answer in right], start, end),
        latencies_s=tuple(answer.end - answer.start for answer in right),
        client_cpu_s=client_cpu_s,
        server_cpu_s=server_cpu_s,
        faults=dict(Counter(answer.fault for answer in answers if answer.fault)),
    )


class LoadGenerator:
    """The process that asks; it is made once and used for all loads."""

    def __enter__(self) -> Self:
        """Start the process."""
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.shutdown()

    def closed(self, target: Target, load: ClosedLoad) -> Outcome:
        """See `ClosedLoad`."""
        return self._process.submit(closed, target, load).result()

    def open(self, target: Target, load: OpenLoad) -> Outcome:
        """See `OpenLoad`."""
        return self._process.submit(opened, target, load).result()


def closed(target: Target, load: ClosedLoad) -> Outcome:
    """`run_closed` for whoever has no event loop."""
    return asyncio.run(run_closed(target, load))


def opened(target: Target, load: OpenLoad) -> Outcome:
    """`run_open` for whoever has no event loop."""
    return asyncio.run(run_open(target, load))
