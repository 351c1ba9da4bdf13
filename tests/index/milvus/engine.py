"""Milvus's embedded engine behind a socket, and what may come between it and its clients."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

from milvus_lite.adapter.grpc.server import start_server_in_thread

from app.index.place import MilvusAddress, MilvusOptions
from tests.serving import free_port

QUICK = MilvusOptions(timeout_s=0.5, start_timeout_s=5)
"""To learn soon that nobody answers."""

PATIENT = MilvusOptions(timeout_s=20, start_timeout_s=20)
"""Where an answer is expected, also of a machine that is busy."""


def url(port: int, name: str) -> str:
    return f"milvus://127.0.0.1:{port}/{name}"


def address(port: int, name: str) -> MilvusAddress:
    return MilvusAddress(url(port, name), f"http://127.0.0.1:{port}", name)


class Engine:
    """The engine on a port of this machine; may be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._server: Any = None
        self._db: Any = None
        self.start()

    def start(self) -> None:
        self._server, self._db, port = start_server_in_thread(str(self.directory), port=self.port)
        assert port == self.port

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._db.close()
            self._server = None


class Proxy:
    """Passes bytes between clients and a port: at once, after a pause, or not at all."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._closed = Event()
        self._passes = Event()
        self._passes.set()
        self._open: list[socket.socket] = []
        self.delay_s = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and take none that lasts."""
        self._passes.clear()
        while self._open:
            _shut(self._open.pop())

    def mend(self) -> None:
        self._passes.set()

    def close(self) -> None:
        self._closed.set()
        self.cut()
        _shut(self._listener)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._passes.is_set():
                _shut(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                _shut(near)
                continue
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sleep(self.delay_s)
                sink.sendall(data)
        _shut(source)
        _shut(sink)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """A proxy in front of a port until the end of the context."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
