"""Faults put in on purpose: what happens is what docs/operations.md says."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import faiss
import pytest
from fastapi.testclient import TestClient

from app.clip.model import ClipModel
from app.embedder import ClipEmbedder
from app.engine import Engine
from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.sources.detect import captions_in_memory
from app.main import create_app
from app.settings import Settings
from tests.photos import encode, gradient

PNG = encode(gradient())


def ask(client: TestClient) -> int:
    response = client.post("/v1/classify", files={"image": ("a.png", PNG), "labels": (None, "cat")})
    return int(response.status_code)


def failing_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """The next call of a method fails, those after it are made."""
    method = getattr(owner, name)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(owner, name, method)
        raise RuntimeError("put in on purpose")

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ClipModel, "encode_images"),
        (faiss.IndexScalarQuantizer, "search"),
        (Collection, "texts"),
    ],
)
def test_a_fault_in_one_computation_fails_one_request(
    monkeypatch: pytest.MonkeyPatch, client: TestClient, owner: type, name: str
) -> None:
    failing_once(monkeypatch, owner, name)
    assert [ask(client), ask(client)] == [500, 200]
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_a_full_disk_fails_the_build_and_keeps_the_old_collection(
    tmp_path: Path, tiny_model_dir: Path, tiny_index_dir: Path
) -> None:
    out = shutil.copytree(tiny_index_dir, tmp_path / "made")
    before = Collection.open(out).manifest
    source = tmp_path / "captions.txt"
    source.write_text("\n".join(f"caption number {number}" for number in range(3000)))

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    model = f"local-dir:{tiny_model_dir}"
    command = ["index", "build", str(source), "--out", str(out), "--model", model]
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", _IGNORING_THE_SIGNAL, *command],
        preexec_fn=no_room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert Collection.open(out).manifest == before


_IGNORING_THE_SIGNAL = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from app.cli import app
app()
"""
"""A full disk is an error of the write; the limit used here would also send a signal."""


def test_a_build_after_a_failed_one_succeeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: ClipModel
) -> None:
    out = tmp_path / "made"

    def build() -> None:
        build_collection(
            [captions_in_memory(["a cat", "a dog"])],
            out,
            ClipEmbedder(tiny_model, max_pixels=1_000_000),
            Options(name="made"),
        )

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(faiss, "write_index", full)
        with pytest.raises(OSError, match="No space left"):
            build()
    assert not out.exists()
    build()
    assert len(Collection.open(out)) == 2


def test_a_collection_removed_while_serving_is_served_on(
    tmp_path: Path, tiny_settings: Settings, tiny_index_dir: Path
) -> None:
    index = shutil.copytree(tiny_index_dir, tmp_path / "index")
    settings = tiny_settings.model_copy(update={"index": str(index)})
    with TestClient(create_app(settings, Engine.load)) as client:
        shutil.rmtree(index)
        assert ask(client) == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/info").json()["index"]["captions"] == 24
