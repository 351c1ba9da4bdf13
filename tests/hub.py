"""A small HTTP server that stands in for the hub: serves files, remembers what it was asked."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves and was asked.

    Attributes:
        files: contents by repository and name.
        asked: `HEAD /ORG/NAME/resolve/main/FILE`, in order.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def find(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a path, as the hub gives them."""
        parts = path.split("?", maxsplit=1)[0].strip("/").split("/")
        repository = "/".join(parts[:2])
        if repository not in self.files or parts[2:3] != ["resolve"]:
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        body = self.files[repository].get("/".join(parts[4:]))
        if body is None:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _COMMIT}
        digest = hashlib.sha256(body).hexdigest()
        return 200, body, {"X-Repo-Commit": _COMMIT, "ETag": f'"{digest}"'}


@contextmanager
def hub() -> Iterator[Hub]:
    """Serve on a free port of this machine."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            state.asked.append(f"{self.command} {self.path}")
            status, body, headers = state.find(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
