"""A build on Ray is the build of one process, whoever is killed on the way."""

import logging
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import ray

from app import embedder
from app.embedder import ClipEmbedder
from app.index import on_ray as on_ray_
from app.index import search
from app.index.build import Options, build_collection, build_with
from app.index.embedder import Embedder
from app.index.making import Step
from app.index.manifest import CollectionError, Kind, ModelStamp
from app.index.on_ray import Crew, RayWorkers, connected
from app.index.sources.detect import captions_in_memory, detect
from app.index.sources.record import Source
from app.settings import Settings
from tests.cli.running import answered, refused
from tests.index.embedders import FakeEmbedder, Watched, fake_model, no_model
from tests.index.test_resume import contents

MODEL = ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=8)
SHARD = 50
KILLS_AT = "caption 120"
FAKE = partial(FakeEmbedder, MODEL)

DRIVER = """
import os, signal, sys
from functools import partial
from pathlib import Path
import ray
from app.index.build import build_with
from app.index.manifest import Kind
from app.index.on_ray import Crew, RayWorkers
from tests.index.embedders import Watched
from tests.index.test_on_ray import MODEL, made, options

address, folder, out, log = sys.argv[1:]
ray.init(address, logging_level=40, log_to_driver=False)

def killing(step):
    if step.share > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)

workers = RayWorkers(partial(Watched, MODEL, Path(log)), Crew(workers=1))
build_with(workers, made(Path(folder)), Path(out), options(Kind.CAPTIONS), killing)
"""

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    """Ray on this machine; its address."""
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions, a text file and a table; with blanks, repeats and faults in each."""
    folder = tmp_path_factory.mktemp("sources")
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(230):
        (pictures / f"{number:03d}.jpg").write_bytes(f"picture {number}".encode())
        (pictures / f"{number:03d}.txt").write_text(f"caption {number % 200}\nanother {number}\n\n")
    (pictures / "bad.jpg").write_bytes(b"bad")
    (pictures / "bad.txt").write_text("no picture")
    (pictures / "mute.jpg").write_bytes(b"mute")
    lines = [f"Another {number}." if number % 3 else f"line {number}" for number in range(90)]
    (folder / "lines.txt").write_bytes("\n".join(lines).encode() + b"\n\xff\n\nlast\n")
    rows = [f'{{"caption": ["row {number}", "line {number}"]}}' for number in range(60)]
    (folder / "rows.jsonl").write_text("\n".join([*rows, "{", '{"no": 1}']))
    return folder


def made(folder: Path, kind: Kind = Kind.CAPTIONS) -> list[Source]:
    names = ("pictures", "lines.txt", "rows.jsonl")
    return detect([folder / name for name in (names if kind is Kind.CAPTIONS else names[:1])])


def options(kind: Kind, *, strict: bool = False) -> Options:
    return Options(name="x", kind=kind, shard_records=SHARD, factory="IVF4,SQ8", strict=strict)


def on_ray(
    sources: Sequence[Source],
    out: Path,
    given: Options,
    make_embedder: Callable[[], Embedder] = FAKE,
    progress: Callable[[Step], object] = lambda _: None,
    workers: int = 1,
) -> dict[str, bytes]:
    with RayWorkers(make_embedder, Crew(workers)) as made_by:
        build_with(made_by, sources, out, given, progress)
    return contents(out)


@pytest.fixture(scope="module")
def wanted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, dict[str, bytes]]:
    """What one process gives."""
    found = {}
    for kind in Kind:
        out = tmp_path_factory.mktemp("wanted") / "out"
        build_collection(made(folder, kind), out, FakeEmbedder(MODEL), options(kind))
        found[kind] = contents(out)
    return found


@pytest.mark.parametrize("kind", list(Kind))
def test_a_build_on_ray_gives_the_same_bytes(
    folder: Path,
    wanted: dict[Kind, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
) -> None:
    monkeypatch.setattr(search, "_PART_ROWS", 60)
    steps: list[Step] = []
    sources = made(folder, kind)
    built = on_ray(sources, tmp_path / "out", options(kind), progress=steps.append, workers=2)
    assert built == wanted[kind]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sum(step.captions for step in steps) == built["captions.txt"].count(b"\n")
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_a_source_that_ends_with_a_shard_is_cut_as_by_one_process(tmp_path: Path) -> None:
    sources = [captions_in_memory([f"caption {number}" for number in range(SHARD)])]
    given = Options(name="x", shard_records=SHARD)
    build_collection(sources, tmp_path / "one", FakeEmbedder(MODEL), given)
    assert on_ray(sources, tmp_path / "many", given) == contents(tmp_path / "one")


def test_a_killed_worker_costs_its_shard_and_nothing_else(
    folder: Path, wanted: dict[Kind, dict[str, bytes]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    watched = partial(Watched, MODEL, log, KILLS_AT, kills=1)
    built = on_ray(made(folder), tmp_path / "out", options(Kind.CAPTIONS), watched, workers=2)
    assert built == wanted[Kind.CAPTIONS]
    times = Counter(log.read_text().splitlines())
    assert sorted(times.values())[-2:] == [1, 2]


def test_a_shard_that_kills_every_worker_ends_the_build(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray_, "_RETRIES", 1)
    watched = partial(Watched, MODEL, tmp_path / "log", KILLS_AT, kills=99)
    with pytest.raises(CollectionError, match=r"shard 2: Ray gave up after 2 tries"):
        on_ray(made(folder), tmp_path / "out", options(Kind.CAPTIONS), watched)


def test_a_killed_driver_is_followed_by_one_that_keeps_its_shards(
    folder: Path, wanted: dict[Kind, dict[str, bytes]], tmp_path: Path, cluster: str
) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    child = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", DRIVER, cluster, folder, out, log], check=False, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert not out.exists()
    before = {path.name for path in (tmp_path / ".out.partial/shards").glob("0*")}
    embedded = len(log.read_text().splitlines())
    built = on_ray(made(folder), out, options(Kind.CAPTIONS), partial(Watched, MODEL, log))
    assert built == wanted[Kind.CAPTIONS]
    assert before
    shards = -(-(232 + 93 + 62) // SHARD)
    assert len(log.read_text().splitlines()) <= embedded + shards - len(before)


def test_a_strict_build_stops_at_the_fault_that_comes_first(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"mute\.jpg: no \.txt beside it .*--strict"):
        on_ray(made(folder), tmp_path / "out", options(Kind.CAPTIONS, strict=True))


def test_a_source_that_cannot_be_read_at_all_is_named(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(CollectionError, match=r"table\.csv: no column of a usual name"):
        on_ray(detect([table]), tmp_path / "out", options(Kind.CAPTIONS))
    there = detect([tmp_path / "table.csv"])
    table.unlink()
    with pytest.raises(CollectionError, match=r"is not there on .* file system that all machines"):
        on_ray(there, tmp_path / "out", options(Kind.CAPTIONS))


def test_a_model_that_cannot_be_loaded_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="There is no such model"):
        on_ray([captions_in_memory(["a"])], tmp_path / "out", options(Kind.CAPTIONS), no_model)


def test_workers_too_large_for_the_cluster_are_refused(tmp_path: Path) -> None:
    workers = RayWorkers(FAKE, Crew(cpus=64))
    with (
        workers,
        pytest.raises(CollectionError, match="no room for a worker of 64 cores and 0 GPUs"),
    ):
        build_with(workers, [captions_in_memory(["a"])], tmp_path / "out", Options("x"))


def test_the_command_builds_on_ray_what_it_builds_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    # Loading a model in a worker takes seconds, most of them for importing torch.
    monkeypatch.setattr(embedder, "load_embedder", fake_model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XMORE_MODEL", "local-dir:some")
    Path("captions.txt").write_text("".join(f"caption {number}\n" for number in range(300)))
    alone = answered("index", "build", "captions.txt", "--out", "alone", "--name", "x")
    ray_ = ["--engine", "ray", "--ray-address", cluster, "--workers", "1"]
    said = answered("index", "build", "captions.txt", "--out", "ray", "--name", "x", *ray_)
    # Ray tells on the same stream, at any time, what became of workers killed before.
    assert alone.replace("alone", "ray") in said
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")


def test_what_loads_the_model_can_be_sent_to_a_worker() -> None:
    settings = Settings(_env_file=None)
    sent: partial[ClipEmbedder] = partial(embedder.load_embedder, settings)
    assert pickle.loads(pickle.dumps(sent)).args == (settings,)  # noqa: S301 - our own


def test_a_port_where_something_else_listens_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray_, "_ANSWERS_WITHIN_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(CollectionError, match="within 2 s"), connected(address):
            pass


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:10001", "is no address of a Ray cluster: give HOST:PORT"),
        ("nowhere", "is no address of a Ray cluster"),
    ],
)
def test_an_address_without_a_cluster_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("captions.txt").write_text("a cat\n")
    command = ["index", "build", "captions.txt", "--out", "made", "--ray-address", address]
    assert said in refused(1, *command, "--engine", "ray")
    assert "is for --engine ray" in refused(2, *command)


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "app.index.on_ray", None)
    Path("captions.txt").write_text("a cat\n")
    said = refused(1, "index", "build", "captions.txt", "--out", "made", "--engine", "ray")
    assert "pip install 'xmore[ray]'" in said
