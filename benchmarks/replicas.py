"""`python -m benchmarks.replicas DIR`: what a collection costs when several servers map it.

Starts servers one after the other on this machine, all on the collection of DIR, and asks each the
same questions. After each start it adds up over all servers what the kernel counts of the
collection's mapped files: RSS counts a page once for every process that has it, PSS divides it by
their number, so that the sum is what the files take of the machine's memory.
"""

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil

from app.index.collection import Collection
from app.settings import ROOT
from benchmarks.server import ServerProcess, serving
from benchmarks.workbench import serve_command

_QUESTIONS = 500
_FOUND = 100


@dataclass(frozen=True, slots=True)
class Mapped:
    """Memory of processes, in MB of 10⁶ bytes, summed over them.

    Attributes:
        resident: RSS of the collection's files.
        proportional: their PSS.
        anonymous: what belongs to no file: each process's own, whatever it maps.
    """

    resident: float
    proportional: float
    anonymous: float


def mapped(servers: Sequence[ServerProcess], directory: Path) -> Mapped:
    """What servers take, now."""
    maps = [region for server in servers for region in psutil.Process(server.pid).memory_maps()]
    files = [region for region in maps if Path(region.path).parent == directory]
    return Mapped(
        sum(region.rss for region in files) / 1e6,
        sum(region.pss for region in files) / 1e6,
        sum(region.anonymous for region in maps) / 1e6,
    )


def ask(server: ServerProcess, questions: Sequence[str]) -> None:
    """Search for captions all over the collection, so that its pages are looked at."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for question in questions:
            asked = {"text": question, "k": str(_FOUND)}
            client.post("/v1/captions/search", data=asked).raise_for_status()


def main() -> None:
    """Start, ask, print a row; once more, with one server more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--servers", type=int, default=4)
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    collection = Collection.open(directory, verify=False)
    rows = np.random.default_rng(0).choice(len(collection), _QUESTIONS)
    questions = collection.texts(rows)
    size = sum(file.bytes for file in collection.manifest.files.values()) / 1e6
    print(f"{directory.name}: {len(collection)} captions, {size:.0f} MB on disk")
    print(f"{'servers':>8}{'RSS of its files, MB':>22}{'PSS, MB':>10}{'anonymous, MB':>15}")
    environment = dict(os.environ) | {"XMORE_INDEX": str(directory), "XMORE_THREADS": "1"}
    with TemporaryDirectory() as logs, ExitStack() as stack:
        servers: list[ServerProcess] = []
        for number in range(1, arguments.servers + 1):
            log = Path(logs) / f"{number}.log"
            server = stack.enter_context(
                serving(serve_command(), "/readyz", environment, ROOT, log)
            )
            servers.append(server)
            ask(server, questions)
            found = mapped(servers, directory)
            print(
                f"{number:>8}{found.resident:>22.1f}{found.proportional:>10.1f}"
                f"{found.anonymous:>15.0f}"
            )


if __name__ == "__main__":
    main()
