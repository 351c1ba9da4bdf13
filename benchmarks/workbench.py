"""What measuring one model needs: its engine here, its server there, photos and the load."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.settings import ROOT
from benchmarks import photos
from benchmarks.answers import Check, TopLabel, acceptable
from benchmarks.effort import Effort
from benchmarks.inprocess import InProcess
from benchmarks.load import ClosedLoad, LoadGenerator, OpenLoad, Outcome, Target
from benchmarks.machine import usable_cores
from benchmarks.models import BenchModel
from benchmarks.server import ServerProcess, serving
from benchmarks.words import TEN_LABELS

_PHOTOS = 16
_FORM = "multipart/form-data; boundary=benchmark"

_TOP = ("results", 0, "predictions", 0, "label")


@dataclass(frozen=True, slots=True)
class Workbench:
    """Everything at hand; the server is suspended except while it is asked.

    Attributes:
        model: the model.
        effort: how long to measure.
        cores: that may be used.
        folder: for files that are needed for a while.
        small: photos of 640 by 480.
        engine: in this process.
        server: `xmore serve`.
        load: the process that asks.
        fused: for each small photo, what is expected of each of the ten labels.
        image_alone: the same without captions.
    """

    model: BenchModel
    effort: Effort
    cores: float
    folder: Path
    small: Sequence[bytes]
    engine: InProcess
    server: ServerProcess
    load: LoadGenerator
    fused: Sequence[Mapping[str, float]]
    image_alone: Sequence[Mapping[str, float]]

    def ours(self) -> Target:
        """Small photos and ten labels, for the server."""
        return classify(self.server, self.small, TEN_LABELS, self.fused)

    def closed(self, target: Target, load: ClosedLoad) -> Outcome:
        """Load our server."""
        with self.server.awake():
            return self.load.closed(target, load)

    def open(self, target: Target, load: OpenLoad) -> Outcome:
        """Load our server with random arrivals."""
        with self.server.awake():
            return self.load.open(target, load)


def classify(
    server: ServerProcess,
    files: Sequence[bytes],
    labels: Sequence[str],
    expected: Sequence[Mapping[str, float]] | None = None,
) -> Target:
    """Requests to `/v1/classify`.

    Args:
        server: ours.
        files: one photo a request.
        labels: of all requests.
        expected: for each photo each label's probability; None where any label may win.
    """
    accepted = acceptable(expected) if expected else (frozenset(labels),) * len(files)
    return form_target(
        server, "/v1/classify", files, {"labels": json.dumps(labels)}, TopLabel(_TOP, accepted)
    )


def form_target(
    server: ServerProcess,
    path: str,
    files: Sequence[bytes],
    fields: Mapping[str, str | list[str]],
    check: Check,
) -> Target:
    """Forms with one photo each."""
    url = server.url + path
    bodies = tuple(
        httpx.Request(
            "POST",
            url,
            headers={"Content-Type": _FORM},
            data=dict(fields),
            files={"image": ("photo.jpg", file, "image/jpeg")},
        ).read()
        for file in files
    )
    return Target(url, _FORM, bodies, check, server.pid)


def serve_command() -> list[str]:
    """`xmore serve`, of this checkout."""
    return [sys.executable, "-m", "app", "serve", "--port", "PORT"]


@contextmanager
def our_server(model: BenchModel, log: Path, **settings: str) -> Iterator[ServerProcess]:
    """`xmore serve` with a model.

    Args:
        model: and its collection.
        log: where its log goes.
        settings: further variables.
    """
    environment = dict(os.environ) | model.environment | settings
    with serving(serve_command(), "/readyz", environment, ROOT, log) as server:
        yield server


@contextmanager
def workbench(
    model: BenchModel, effort: Effort, folder: Path, load: LoadGenerator
) -> Iterator[Workbench]:
    """Set everything up for a model."""
    small = photos.photos(_PHOTOS, photos.SMALL)
    cores = usable_cores()
    engine = InProcess(model.settings, cores)
    fused, image_alone = engine.expected(small, TEN_LABELS)
    with our_server(model, folder / f"{model.name}.log") as server:
        server.suspend()
        yield Workbench(
            model=model,
            effort=effort,
            cores=cores,
            folder=folder,
            small=small,
            engine=engine,
            server=server,
            load=load,
            fused=fused,
            image_alone=image_alone,
        )
