"""Build on Ray: many processes, on one machine or on a cluster, embed the shards of a collection.

    read tasks (one a source, streaming) -> blocks in Ray's object store
    driver: one ordered pass over the captions' keys, and cuts of so many items
    actors (hold the model): fold, embed, write the shard
    driver: trains FAISS; tasks write its parts; driver merges them on disk

Images go from the read tasks to the actors and never through the driver, nor does caption text: the
driver sees eight bytes a caption. Ray's core is enough. Ray Data's order-preserving pipelines were
not taken, because the pass over the keys in their middle has a state that must outlive a lost
worker (there it would be an actor, and a block that is tried again would find its own captions
seen), and because shards hold an exact number of items wherever sources end (its blocks are cut by
size), on which it depends that one process, many and a resumed build give the same bytes.
"""

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, Self

import numpy as np
import ray
from loky import cpu_count
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.index.embedder import Embedder
from app.index.folding import BoolArray, KeyArray, SeenCaptions, caption_keys
from app.index.making import Progress, ShardMaker, ShardRules, Step
from app.index.manifest import CollectionError, Kind, ModelStamp
from app.index.reading import START, Place, Reached, Read, Span, spans
from app.index.search import FloatArray, IdArray, Part
from app.index.shard import Shard, ShardState
from app.index.sources.record import Fault, Source, SourceError
from app.index.workers import standing

_OBJECT_STORE_BYTES = 2**30
_ANSWERS_WITHIN_S = 20
_LOADED_WITHIN_S = 900
_RETRIES = 3
_POLL_S = 1.0

_BLOCK_ITEMS = {Kind.CAPTIONS: 4096, Kind.PAIRS: 32}
_BLOCKS_AHEAD = 8
"""Blocks of a source that wait to be taken before its reading pauses."""


@dataclass(frozen=True, slots=True)
class Crew:
    """How many actors embed, and what Ray keeps for each.

    Attributes:
        workers: how many; None: as many as there is room for.
        cpus: cores of one.
        gpus: GPUs of one, or the fraction of one that several share.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def size(self) -> int:
        """How many actors to start on the cluster that is connected.

        Raises:
            CollectionError: there is room for none.
        """
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0) // self.cpus) if self.cpus else None
        if self.gpus:
            of_gpus = int(there.get("GPU", 0) / self.gpus)
            room = of_gpus if room is None else min(room, of_gpus)
        if not room:
            raise CollectionError(
                f"Ray has {there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs, which is "
                f"no room for a worker of {self.cpus:g} cores and {self.gpus:g} GPUs."
            )
        return min(room, self.workers or room)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for a build: a cluster that is there, or one of this machine's cores for the time.

    A process that is connected already stays so.

    Raises:
        CollectionError: nothing answers at the address, or not in time.
    """
    if address is not None:
        _check_answers(address)
    if ray.is_initialized():
        yield
        return
    # Ray would tell its makers what it is used for; nothing here asks a network unbidden.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        ray.init(
            "local",
            num_cpus=cpu_count(),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )
    else:
        try:
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise CollectionError(f"Ray at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray's own connecting would try for minutes, and cannot be told to give up."""
    host, colon, port = address.rpartition(":")
    status = [sys.executable, "-m", "ray.scripts.scripts", "status"]
    if address != "auto":
        if not colon or not port.isdigit() or "/" in host:
            raise CollectionError(
                f"'{address}' is no address of a Ray cluster: give HOST:PORT of its head (6379 by "
                "default), or 'auto' for the one that this machine belongs to. The command runs "
                "on a machine of the cluster."
            )
        status += ["--address", address]
    try:
        if address != "auto":
            socket.create_connection((host, int(port)), _ANSWERS_WITHIN_S).close()
        subprocess.run(  # noqa: S603 - Ray's command, and an address without blanks or options
            status, timeout=_ANSWERS_WITHIN_S, check=True, capture_output=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CollectionError(
            f"no Ray cluster answers at {address} within {_ANSWERS_WITHIN_S} s. Is its head "
            "running (`ray start --head`)?"
        ) from error


@dataclass(frozen=True, slots=True)
class _Contents:
    """What the driver learns of a block of items.

    Attributes:
        keys: of all captions but blank ones, in order.
        ends: how many keys precede the end of each item, (items,).
        numbers: the items' places in their source, (items,).
        shares: of all sources, behind with each item, (items,).
    """

    keys: KeyArray
    ends: IdArray
    numbers: IdArray
    shares: FloatArray


@dataclass(frozen=True, slots=True)
class _Piece:
    """Items of a block that follow each other.

    Attributes:
        block: the block, a list of `Read` in the object store.
        span: of its source.
        contents: of the whole block.
        new: for each key of the whole block, whether it was not there before.
        first: the first item of the piece.
        end: the one after its last.
    """

    block: Any
    span: Span
    contents: _Contents
    new: BoolArray
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def reached(self) -> Reached:
        """Where reading stands after the piece."""
        place = Place(source=self.span.number, item=int(self.contents.numbers[self.end - 1]))
        return Reached(place, float(self.contents.shares[self.end - 1]))

    def split(self, count: int) -> "tuple[_Piece, _Piece]":
        """Its first `count` items, and the rest."""
        middle = self.first + count
        return replace(self, end=middle), replace(self, first=middle)

    def order(self) -> "_Order":
        """What a worker has to know of it."""
        ends = self.contents.ends
        before = ends[self.first - 1] if self.first else 0
        new = self.new[before : ends[self.end - 1]] if len(self) else self.new[:0]
        return _Order(self.block, self.first, self.end, new)


@dataclass(frozen=True, slots=True)
class _Order:
    """The items of a piece, and for each of their keys whether it is new."""

    block: Any
    first: int
    end: int
    new: BoolArray

    def items(self) -> Iterator[Read]:
        """The items, fetched when the first of them is wanted."""
        block: list[Read] = ray.get(self.block)
        yield from block[self.first : self.end]


def _read_blocks(span: Span, kind: Kind, behind: int) -> Generator[_Contents | list[Read]]:
    """Read task: of each block first what the driver needs, then the block itself."""
    path = span.source.path
    if path is not None and not path.exists():
        raise SourceError(_unseen(), path)
    reads = span.read(kind is Kind.PAIRS, behind)
    while block := list(islice(reads, _BLOCK_ITEMS[kind])):
        yield _contents(block, kind)
        yield block


def _unseen() -> str:
    return (
        f"is not there on {socket.gethostname()}. Sources and --out have to be on a file system "
        "that all machines of the cluster share, under the same path."
    )


def _contents(block: Sequence[Read], kind: Kind) -> _Contents:
    keys = [
        caption_keys(() if kind is Kind.PAIRS or isinstance(item, Fault) else item.captions)
        for item in (read.item for read in block)
    ]
    return _Contents(
        keys=np.concatenate(keys),
        ends=np.cumsum([len(of_item) for of_item in keys], dtype=np.int64),
        numbers=np.asarray([read.number for read in block], np.int64),
        shares=np.asarray([read.share for read in block]),
    )


class _Worker:
    """Actor: holds the model and makes shards with it."""

    def __init__(self, make_embedder: Callable[[], Embedder]) -> None:
        self._make_embedder = make_embedder

    @cached_property
    def _embedder(self) -> Embedder:
        # Not in __init__, where Ray would bury what is wrong with a model in its own error.
        return self._make_embedder()

    def stamp(self) -> ModelStamp:
        """The model."""
        return self._embedder.stamp

    def make(
        self,
        rules: ShardRules,
        model: ModelStamp,
        number: int,
        start: Reached,
        orders: Sequence[_Order],
        tally: Any,
    ) -> ShardState:
        """Make a shard, and tell how it goes meanwhile."""
        if self._embedder.stamp != model:
            raise CollectionError(
                f"{socket.gethostname()} has other weights for {model.name} than the first worker."
            )
        if not rules.folder.path.is_dir():
            raise CollectionError(_unseen(), rules.folder.path)
        new = chain.from_iterable(order.new.tolist() for order in orders)
        items = chain.from_iterable(order.items() for order in orders)
        captions = 0

        def tell(step: Step) -> None:
            nonlocal captions
            captions += step.captions
            tally.note.remote(number, Step(captions, step.share - start.share))

        maker = ShardMaker(rules, self._embedder)
        return maker.make(number, start, items, lambda _: next(new), tell).state


class _Tally:
    """Actor: how far each shard in the making is."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}

    def note(self, number: int, step: Step) -> None:
        """A shard has come so far."""
        self._steps[number] = step

    def read(self, wanted: Sequence[int]) -> list[Step]:
        """How far shards have come; the others are forgotten."""
        self._steps = {number: self._steps.get(number, Step(0, 0.0)) for number in wanted}
        return list(self._steps.values())


class RayWorkers:
    """Satisfies `app.index.workers.Workers`, within `connected`; a context that ends them."""

    def __init__(self, make_embedder: Callable[[], Embedder], crew: Crew) -> None:
        """Plan the workers; they start when they are needed.

        Args:
            make_embedder: loads the model; called in each worker.
            crew: how many, and of what size.
        """
        self._make_embedder = make_embedder
        self._crew = crew

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    @cached_property
    def stamp(self) -> ModelStamp:
        """The model, by the worker that has loaded it first.

        Raises:
            CollectionError: there is no room for a worker, or none started in time.
        """
        stamps = [actor.stamp.remote() for actor in self._actors]
        ready, _ = ray.wait(stamps, timeout=_LOADED_WITHIN_S)
        if not ready:
            raise CollectionError(
                f"no worker has loaded the model within {_LOADED_WITHIN_S} s. Are the cluster's "
                "cores or GPUs taken by others (`ray status`)?"
            )
        stamp: ModelStamp = _fetch(ready[0], "loading the model")
        return stamp

    @cached_property
    def _actors(self) -> list[Any]:
        actor = ray.remote(_Worker).options(
            num_cpus=self._crew.cpus,
            num_gpus=self._crew.gpus,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
        return [actor.remote(self._make_embedder) for _ in range(self._crew.size())]

    def make_shards(
        self, sources: Sequence[Source], rules: ShardRules, progress: Progress
    ) -> list[Shard]:
        """All shards in their order, those that stand included.

        Raises:
            CollectionError: the rules are strict and something could not be used; sources or
                shards are not on a file system that all machines share; or a shard's worker was
                lost again and again.
        """
        seen = SeenCaptions()
        shards: list[Shard] = []
        while shard := standing(rules, len(shards), seen, progress):
            shards.append(shard)
            if shard.state.last:
                break
        else:
            start = shards[-1].state.reached if shards else START
            making = _Making(rules, self.stamp, self._actors, start.share, progress)
            pieces = _read_on(spans(sources), start.place, rules.kind, seen, len(self._actors))
            for number, chunk in enumerate(_cut(pieces, rules.records), len(shards)):
                shard = rules.folder.find(number)
                if shard is None:
                    making.submit(number, start, [piece.order() for piece in chunk])
                else:
                    making.stands(start, shard.state)
                start = chunk[-1].reached if chunk else start
            making.finish()
            shards += [_there(rules, number) for number in range(len(shards), number + 1)]
        self._release()
        return shards

    def write_parts(self, parts: Sequence[Part]) -> None:
        """Write every part of the index, as many at a time as there are cores."""
        task = ray.remote(Part.write).options(num_cpus=1, max_retries=_RETRIES)
        for number, written in enumerate([task.remote(part) for part in parts]):
            _fetch(written, f"part {number} of the index")

    def _release(self) -> None:
        """Let go of the cores and GPUs: the parts of the index need them."""
        for actor in self.__dict__.pop("_actors", ()):
            ray.kill(actor)


@dataclass(frozen=True, slots=True)
class _Running:
    """A shard in the making."""

    number: int
    start: Reached
    actor: Any


class _Making:
    """Shards in the making: who is at which, and how far all have come."""

    def __init__(
        self,
        rules: ShardRules,
        model: ModelStamp,
        actors: Sequence[Any],
        share: float,
        progress: Progress,
    ) -> None:
        self._rules = rules
        self._model = model
        self._idle = deque(actors)
        self._progress = progress
        self._running: dict[Any, _Running] = {}
        self._done = Step(0, share)
        self._told = self._done
        # It lives and dies with the driver's machine.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        tally = ray.remote(_Tally).options(
            num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=_RETRIES
        )
        self._tally: Any = tally.remote()

    def submit(self, number: int, start: Reached, orders: Sequence[_Order]) -> None:
        """Give a shard to a worker, once one is idle."""
        while not self._idle:
            self._wait()
        actor = self._idle.popleft()
        ref = actor.make.remote(self._rules, self._model, number, start, orders, self._tally)
        self._running[ref] = _Running(number, start, actor)

    def stands(self, start: Reached, state: ShardState) -> None:
        """Count a shard that an earlier run finished."""
        self._count(start, state)
        self._tell()

    def finish(self) -> None:
        """Wait for what is in the making."""
        while self._running:
            self._wait()
        ray.kill(self._tally)

    def _wait(self) -> None:
        ready, _ = ray.wait(list(self._running), timeout=_POLL_S)
        for ref in ready:
            done = self._running.pop(ref)
            self._count(done.start, self._state(ref, done.number))
            self._idle.append(done.actor)
        self._tell()

    def _state(self, ref: Any, number: int) -> ShardState:
        try:
            state: ShardState = _fetch(ref, f"shard {number}")
        except CollectionError:
            # Of several faults the first is told, as one process would.
            for other, running in self._running.items():
                if running.number < number:
                    _fetch(other, f"shard {running.number}")
            raise
        return state

    def _count(self, start: Reached, state: ShardState) -> None:
        gained = state.share - start.share
        self._done = Step(self._done.captions + state.captions, self._done.share + gained)

    def _tell(self) -> None:
        """Pass progress on; a shard that is begun again takes nothing back."""
        numbers = [running.number for running in self._running.values()]
        steps: list[Step] = _fetch(self._tally.read.remote(numbers), "counting")
        now = Step(
            self._done.captions + sum(step.captions for step in steps),
            self._done.share + sum(step.share for step in steps),
        )
        more = max(0, now.captions - self._told.captions)
        self._told = Step(self._told.captions + more, max(now.share, self._told.share))
        self._progress(Step(more, self._told.share))


def _read_on(
    sources: Sequence[Span], place: Place, kind: Kind, seen: SeenCaptions, ahead: int
) -> Iterator[_Piece]:
    """Blocks from a place on, in order; some sources are read ahead."""
    task = ray.remote(_read_blocks).options(
        # Reading waits more than it computes. Were cores asked for, workers could hold them all.
        num_cpus=0,
        num_returns="streaming",
        max_retries=_RETRIES,
        scheduling_strategy="SPREAD",
        _generator_backpressure_num_objects=2 * _BLOCKS_AHEAD,
    )
    left = deque(sources[place.source :])
    begun: deque[tuple[Span, Any]] = deque()
    while left or begun:
        while left and len(begun) < ahead:
            span = left.popleft()
            behind = place.item if span.number == place.source else 0
            begun.append((span, task.remote(span, kind, behind)))
        span, blocks = begun.popleft()
        for first in blocks:
            contents: _Contents = _fetch(first, f"reading {span.source.name}")
            new = seen.add_all(contents.keys)
            yield _Piece(next(blocks), span, contents, new, 0, len(contents.numbers))


def _cut(pieces: Iterator[_Piece], records: int) -> Iterator[list[_Piece]]:
    """Pieces of `records` items together; the last list has fewer, or none."""
    chunk: list[_Piece] = []
    missing = records
    for piece in pieces:
        rest = piece
        while len(rest) >= missing:
            taken, rest = rest.split(missing)
            yield [*chunk, taken]
            chunk, missing = [], records
        if len(rest):
            chunk.append(rest)
            missing -= len(rest)
    yield chunk


def _there(rules: ShardRules, number: int) -> Shard:
    """A shard that a worker has written."""
    shard = rules.folder.find(number)
    if shard is None:
        raise CollectionError(_unseen(), rules.folder.path / f"{number:06d}")
    return shard


def _fetch(ref: Any, doing: str) -> Any:
    """A result, or what went wrong.

    Raises:
        CollectionError: Ray lost it.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        words = str(error).strip().splitlines()
        raise CollectionError(
            f"{doing}: Ray gave up after {_RETRIES + 1} tries ({words[0]})"
        ) from error
