"""The application on a real socket, and what it takes to speak to it badly."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
from fastapi import FastAPI

from app.server import Server
from app.settings import Settings


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something that is on its way has happened."""
    pause = Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")


@contextmanager
def serving(app: FastAPI, settings: Settings, port: int = 0) -> Iterator[httpx.Client]:
    """Serve on a port of this machine, a free one if none is given; a client for it."""
    server = Server(app, settings.model_copy(update={"port": port}))
    thread = Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    pause = Event()
    while not server.started:
        assert thread.is_alive()
        pause.wait(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def connect(client: httpx.Client) -> socket.socket:
    """A bare connection to the server."""
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), 60)


def head(path: str, length: int, content_type: str = "multipart/form-data; boundary=b") -> bytes:
    """The head of a POST."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def form(image: bytes, *labels: str) -> bytes:
    """A form with the boundary `b`."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n%b\r\n' % label.encode()
        for label in labels
    ]
    file = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n%b\r\n'
    return b"".join([*parts, file % image, b"--b--\r\n"])


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the one answer on a connection, or of the next."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, json.loads(file.read(int(headers["content-length"])))


class ServerProcess:
    """`xmore serve` on a free port."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "app", "serve"]
        with log.open("w") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter, our own arguments
                command, env=environment, stderr=stderr
            )
        wait_for(lambda: self.process.poll() is not None or bool(self.told(" on http://")))
        assert self.process.poll() is None, log.read_text()
        (message,) = self.told(" on http://")
        self.client = httpx.Client(base_url=message.split(" on ")[1].split()[0], timeout=60)

    def told(self, words: str) -> list[str]:
        """Messages of its log that hold the words."""
        lines = self._log.read_text().splitlines(keepends=True)
        # The last line may be half written, and why a start failed is told in plain words.
        whole = [
            json.loads(line)["message"] for line in lines if line[0] == "{" and line[-1] == "\n"
        ]
        return [message for message in whole if words in message]

    def wait_until_one_is_under_way(self) -> None:
        wait_for(lambda: "xmore_queue_depth 1.0" in self.client.get("/metrics").text)

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(60)


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[ServerProcess]:
    """`xmore serve` in a process of its own until the end of the context.

    Args:
        environment: the whole of it.
        log: where its log is written.
    """
    process = ServerProcess(environment, log)
    try:
        yield process
    finally:
        process.close()
