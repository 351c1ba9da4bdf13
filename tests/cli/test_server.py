"""`xmore classify --server`: the same answers, from a running server."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.api.admission import Gate
from app.api.problems import Problem
from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.cli.running import LABELS, answered, refused, run, start, unstyle, watched
from tests.photos import encode, gradient
from tests.serving import serving

KEY = "a key of enough letters"


@pytest.fixture(scope="module")
def url(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[str]:
    settings = tiny_settings.model_copy(update={"api_keys": [SecretStr(KEY)]})
    with serving(create_app(settings, lambda _: tiny_engine), settings) as http:
        yield str(http.base_url)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMORE_API_KEY", KEY)


def album(count: int) -> list[Path]:
    paths = [Path(f"{number}.png") for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(gradient().rotate(20 * number)))
    return paths


@pytest.mark.parametrize("format_", ["json", "jsonl", "csv", "table"])
def test_a_server_gives_the_answers_of_this_process(url: str, format_: str) -> None:
    def ask(*arguments: str) -> Any:
        said = answered("classify", *paths, *LABELS, "-f", format_, *arguments)
        if format_ == "json":
            return json.loads(said)
        return [json.loads(line) for line in said.splitlines()] if format_ == "jsonl" else said

    paths = album(10)
    here, there = ask(), ask("--server", url)
    if isinstance(here, str):
        assert len(here.splitlines()) == len(there.splitlines())
        assert here.splitlines()[0] == there.splitlines()[0]
        return
    for ours, theirs in zip(here, there, strict=True):
        assert ours["filename"] == theirs["filename"]
        assert [c["text"] for c in ours["captions"]] == [c["text"] for c in theirs["captions"]]
        for one, other in zip(ours["predictions"], theirs["predictions"], strict=True):
            assert one["label"] == other["label"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_options_reach_the_server(url: str) -> None:
    (path,) = album(1)
    options = ("-k", "3", "--fusion", "mean", "--top-k", "2", "-t", "{}", "--index", "tiny-index")
    asked: tuple[str | Path, ...] = ("classify", path, *LABELS, *options, "--json")
    (result,) = json.loads(answered(*asked, "--server", url))
    assert len(result["captions"]) == 3
    assert len(result["predictions"]) == 2
    assert result["modalities"]["image"]["weight"] == 0.5
    (by_corners,) = json.loads(answered(*asked, "--crops", "--server", url))
    assert by_corners["predictions"] != result["predictions"]
    (here,) = json.loads(answered(*asked[:-3], "--json", "--crops"))
    for one, other in zip(by_corners["predictions"], here["predictions"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_bad_images_are_named_and_the_others_are_answered(url: str) -> None:
    paths = album(9)
    paths[1].write_text("not an image")
    paths[2].write_bytes(b"x" * 300_000)
    paths[7].write_bytes(b"")
    folder = Path("folder")
    folder.mkdir()
    (folder / "gone.png").symlink_to("nowhere.png")
    result = run("classify", *paths, folder, *LABELS, "-f", "jsonl", "--server", url)
    assert result.exit_code == 1
    names = [json.loads(line)["filename"] for line in result.stdout.splitlines()]
    assert names == ["0.png", "3.png", "4.png", "5.png", "6.png", "8.png"]
    said = unstyle(result.stderr).splitlines()
    assert said[0].startswith("error: 1.png: not an image")
    assert said[1] == "error: 2.png: the file has 300000 bytes, at most 200000 are allowed"
    assert said[2] == "error: 7.png: the file is empty"
    assert said[3].startswith("error: folder/gone.png: cannot be read")
    assert said[4] == "4 of 10 images could not be used"


def test_wrong_use_is_told_in_the_servers_words(url: str) -> None:
    album(1)
    common = ("classify", "0.png", "--server", url)
    assert "more than once: 'cat'" in refused(2, *common, "-l", "cat", "-l", "cat")
    assert "exactly one {}" in refused(2, *common, *LABELS, "-t", "a photo")
    assert "index" in refused(2, *common, *LABELS, "--index", "nowhere")


def test_without_the_key_it_fails(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    album(1)
    monkeypatch.delenv("XMORE_API_KEY")
    assert "API key" in refused(1, "classify", "0.png", *LABELS, "--server", url)
    answered("classify", "0.png", *LABELS, "--server", url, "--api-key", KEY)


def test_without_a_server_it_fails() -> None:
    album(1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = refused(1, "classify", "0.png", *LABELS, "--server", f"http://127.0.0.1:{port}")
    assert said.startswith(f"error: No server answers at http://127.0.0.1:{port}")
    assert "no address" in refused(2, "classify", "0.png", *LABELS, "--server", "127.0.0.1:8000")


def test_a_busy_server_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tiny_settings: Settings, tiny_engine: Engine
) -> None:
    app = create_app(tiny_settings, lambda _: tiny_engine)
    gate: Gate = app.state.gate
    enter = gate.enter
    busy = [Problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", headers={"Retry-After": "0"})] * 2

    def sometimes(declared_bytes: int) -> Any:
        if busy:
            raise busy.pop()
        return enter(declared_bytes)

    monkeypatch.setattr(gate, "enter", sometimes)
    with serving(app, tiny_settings) as http:
        answered("classify", *album(2), *LABELS, "--server", str(http.base_url))
    assert not busy


def test_ctrl_c_ends_it_while_the_server_is_silent() -> None:
    (path,) = album(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        path = path.absolute()
        with start(
            "classify", path, *LABELS, "--json", "--server", url, stdout=-1, stderr=-1
        ) as process:
            connection, _ = silent.accept()
            with closing(connection):
                connection.recv(1)
                process.send_signal(signal.SIGINT)
                out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode() == "interrupted: 0 of 1 images are answered\n"
    assert json.loads(out) == []


def test_ctrl_c_leaves_what_is_done_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Engine.answer
    calls: list[int] = []

    def interrupted(engine: Engine, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return answer(engine, *arguments)

    monkeypatch.setattr(Engine, "answer", interrupted)
    result = run("classify", *album(40), *LABELS, "--json")
    assert result.exit_code == 130
    assert len(json.loads(result.stdout)) == 32
    assert "interrupted: 32 of 40 images are answered" in result.stderr


def test_a_reader_that_has_enough_is_no_error(url: str) -> None:
    paths = [path.absolute() for path in album(40)]
    process = start(
        "classify", *paths, *LABELS, "-f", "jsonl", "--server", url, stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert said == b""


def test_a_bar_on_the_terminal_leaves_the_output_alone(url: str) -> None:
    paths = [path.absolute() for path in album(3)]
    seen, piped = watched("classify", *paths, *LABELS, "-f", "jsonl", "--server", url, both=False)
    assert "classify" in seen
    assert "3/3" in seen
    assert len([json.loads(line) for line in piped.splitlines()]) == 3


def test_tables_go_above_the_bar(url: str) -> None:
    paths = [path.absolute() for path in album(3)]
    seen, _ = watched("classify", *paths, *LABELS, "--server", url, both=True)
    assert "3/3" in seen
    assert seen.count("weights: image") == 3


def test_one_image_needs_no_bar(url: str) -> None:
    (path,) = [path.absolute() for path in album(1)]
    seen, piped = watched("classify", path, *LABELS, "-f", "jsonl", "--server", url, both=False)
    assert seen == ""
    assert json.loads(piped)["filename"] == str(path)
