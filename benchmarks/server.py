"""A server in a process of its own: started, timed until it is ready, suspended while idle."""

import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import httpx
import psutil

_READY_WITHIN_S = 300.0
_LOOK_EVERY_S = 0.01
_LAST_LINES = 15
_STOP_WITHIN_S = 30.0


class ServerError(Exception):
    """A server did not start; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process takes of the machine's memory.

    Attributes:
        resident_mb: RSS, MB of 10⁶ bytes, with files that are mapped.
        anonymous_mb: what of it belongs to no file, and cannot be given back under pressure.
    """

    resident_mb: float
    anonymous_mb: float


class ServerProcess:
    """A running server.

    Attributes:
        url: without a path.
        pid: of the process.
        ready_s: seconds from starting the process to its first sign of being ready.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, ready_s: float) -> None:
        self.url = url
        self.pid = process.pid
        self.ready_s = ready_s
        self._process = psutil.Process(process.pid)

    def memory(self) -> Memory:
        """Now."""
        anonymous = sum(mapped.anonymous for mapped in self._process.memory_maps())
        return Memory(self._process.memory_info().rss / 1e6, anonymous / 1e6)

    def suspend(self) -> None:
        """Let it take no CPU time."""
        self._process.suspend()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run inside; outside, what else is measured has the machine to itself."""
        self._process.resume()
        try:
            yield
        finally:
            self._process.suspend()


@contextmanager
def serving(
    command: Sequence[str],
    ready: str,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
) -> Iterator[ServerProcess]:
    """Run a server until the end of the context.

    Args:
        command: `PORT` in it is replaced by a free port of this machine.
        ready: path that answers 200 once the server is ready.
        environment: the whole of it.
        folder: to run it in.
        log: where what it prints goes.

    Raises:
        ServerError: it ended, or was not ready in time.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    started = [argument.replace("PORT", str(port)) for argument in command]
    with log.open("wb") as output:
        start = perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own command
            started, env=dict(environment), cwd=folder, stdout=output, stderr=output
        )
        try:
            _wait(process, url + ready, start, log)
            yield ServerProcess(process, url, perf_counter() - start)
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, start: float, log: Path) -> None:
    with httpx.Client(timeout=10) as client:
        while perf_counter() - start < _READY_WITHIN_S:
            if process.poll() is not None:
                break
            with suppress(httpx.TransportError):
                if client.get(url).status_code == 200:
                    return
            sleep(_LOOK_EVERY_S)
    lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    raise ServerError("\n".join(["The server did not get ready. The end of its log:", *lines]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.Process(process.pid).resume()
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
