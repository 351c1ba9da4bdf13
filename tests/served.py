"""The real server in a process of its own, as `xmore serve` starts it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import IO

from app.settings import ROOT

_RUNNING = re.compile(r"Uvicorn running on (http://[\w.]+:\d+)")


@contextmanager
def served(patience: float = 120.0, **settings: str) -> Iterator[str]:
    """Run `xmore serve` on a free port and yield its URL once it takes requests.

    Args:
        patience: seconds until the server must be up.
        settings: `XMORE_*` variables by their names in lower case, without the prefix.

    Raises:
        AssertionError: it did not come up; the message holds what it printed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XMORE_")}
    environment |= {f"XMORE_{name.upper()}": value for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--port", "0"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        lines: Queue[str] = Queue()
        reader = threading.Thread(target=_pass_on, args=(server.stderr, lines))
        reader.start()
        try:
            yield _url(lines, patience)
        finally:
            server.terminate()
            server.wait(30)
            reader.join()


def _pass_on(stream: IO[str], lines: Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _url(lines: Queue[str], patience: float) -> str:
    printed = ""
    try:
        while line := lines.get(timeout=patience):
            printed += line
            if found := _RUNNING.search(line):
                return found[1]
    except Empty:
        pass
    raise AssertionError(f"the server did not come up:\n{printed}")
