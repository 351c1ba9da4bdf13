"""The server as a process: it stops in good order, and starts again after a bad one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.photos import encode, gradient
from tests.serving import connect, form, head, read_answer, running, wait_for

FORM = form(encode(gradient()), "cat", "dog")
ROUTE = "/v1/classify"


@pytest.fixture
def environment(tiny_model_dir: Path, tiny_index_dir: Path) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("XMORE_")}
    return others | {
        "XMORE_MODEL": f"local-dir:{tiny_model_dir}",
        "XMORE_INDEX": str(tiny_index_dir),
        "XMORE_THREADS": "1",
        "XMORE_PORT": "0",
        "XMORE_DRAIN_TIMEOUT_S": "60",
    }


def test_sigterm_fails_readiness_finishes_what_was_accepted_and_exits_0(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with running(environment, tmp_path / "log") as server, connect(server.client) as accepted:
        accepted.sendall(head(ROUTE, len(FORM)) + FORM[:100])
        server.wait_until_one_is_under_way()
        assert server.client.get("/readyz").status_code == 200

        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: bool(server.told("stopping")))
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/healthz").status_code == 200
        refused = server.client.post(ROUTE, content=b"", headers={"content-type": "text/plain"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]

        accepted.sendall(FORM[100:])
        status, _, answer = read_answer(accepted)
        assert status == 200
        assert len(answer["results"][0]["predictions"]) == 2
        assert server.process.wait(60) == 0


def test_what_does_not_finish_in_time_gets_503_and_the_exit_is_still_0(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        running(environment | {"XMORE_DRAIN_TIMEOUT_S": "0.2"}, tmp_path / "log") as server,
        connect(server.client) as accepted,
    ):
        accepted.sendall(head(ROUTE, len(FORM)) + FORM[:100])
        server.wait_until_one_is_under_way()
        server.process.send_signal(signal.SIGTERM)
        assert read_answer(accepted)[0] == 503
        assert server.process.wait(60) == 0


def test_kill_9_leaves_nothing_that_prevents_the_next_start(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with running(environment, tmp_path / "log") as server, connect(server.client) as accepted:
        accepted.sendall(head(ROUTE, len(FORM)) + FORM[:100])
        port = server.client.base_url.port
        server.process.kill()
        server.process.wait(60)
        again = environment | {"XMORE_PORT": str(port)}
    with running(again, tmp_path / "log") as server, connect(server.client) as connection:
        connection.sendall(head(ROUTE, len(FORM)) + FORM)
        assert read_answer(connection)[0] == 200


def test_a_start_that_fails_says_why_and_exits_with_1(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        env=environment | {"XMORE_INDEX": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "not a caption collection" in done.stderr
    assert "Traceback" not in done.stderr
