"""A build that was killed goes on where it was, and ends in the same bytes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from app.index.build import SHARD_RECORDS, Options, build_collection
from app.index.collection import Collection
from app.index.manifest import CollectionError, Kind, ModelStamp, read_manifest
from app.index.plan import PLAN
from app.index.search import FloatArray
from app.index.sources.detect import detect
from tests.index.embedders import FakeEmbedder, embed_by_hash

MODEL = ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=8)
SHARD = 50
RECORDS = 330

CHILD = """
import os, signal, sys
from pathlib import Path
from app.index import build, manifest, shard
from app.index.build import Options, build_collection
from app.index.manifest import Kind
from app.index.sources.detect import detect
from tests.index.embedders import FakeEmbedder
from tests.index.test_resume import MODEL, SHARD

source, out, kind, moment = sys.argv[1:]
calls = 0

def at(name, inner):
    def wrapped(*args, **kwargs):
        global calls
        calls += name == moment.split(":")[0]
        if moment == f"{name}:{calls}":
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **kwargs)
    return wrapped

shard.sync = at("shard", shard.sync)
build.build_search = at("search", build.build_search)
build.stamp_file = at("stamp", build.stamp_file)
build.sync = at("publish", build.sync)
Path.rename = at("rename", Path.rename)
build.shutil.rmtree = at("remove", build.shutil.rmtree)
options = Options(name="x", kind=Kind(kind), shard_records=SHARD, factory="IVF4,SQ8")
build_collection(detect([Path(source)]), Path(out), FakeEmbedder(MODEL), options)
"""


def refusing(_: Sequence[str]) -> FloatArray:
    raise RuntimeError("the power went")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number in range(RECORDS):
        (folder / f"{number:04d}.jpg").write_bytes(f"picture {number}".encode())
        (folder / f"{number:04d}.txt").write_text(f"caption {number % 300}\nanother {number}\n")
    (folder / "bad.jpg").write_bytes(b"bad")
    return folder


def options(kind: Kind = Kind.CAPTIONS, *, restart: bool = False) -> Options:
    return Options(name="x", kind=kind, shard_records=SHARD, factory="IVF4,SQ8", restart=restart)


def build(source: Path, out: Path, given: Options, embedder: FakeEmbedder | None = None) -> None:
    build_collection(detect([source]), out, embedder or FakeEmbedder(MODEL), given)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def wanted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, dict[str, bytes]]:
    """What a build that was never disturbed gives."""
    made = {}
    for kind in Kind:
        out = tmp_path_factory.mktemp("whole") / "out"
        build(source, out, options(kind))
        made[kind] = contents(out)
    return made


def build_until(moment: str, source: Path, out: Path, kind: Kind) -> None:
    """Build in another process, which kills itself at the given moment."""
    child = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", CHILD, source, out, kind.value, moment],
        check=False,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        (Kind.CAPTIONS, "shard:1"),
        (Kind.CAPTIONS, "shard:17"),
        (Kind.CAPTIONS, "rename:3"),
        (Kind.CAPTIONS, "search:1"),
        (Kind.CAPTIONS, "rename:8"),
        (Kind.PAIRS, "shard:20"),
        (Kind.PAIRS, "stamp:2"),
        (Kind.PAIRS, "publish:3"),
    ],
)
def test_a_killed_build_resumes_to_the_same_bytes(
    source: Path, wanted: dict[Kind, dict[str, bytes]], tmp_path: Path, kind: Kind, moment: str
) -> None:
    out = tmp_path / "out"
    build_until(moment, source, out, kind)
    assert not out.exists()
    build(source, out, options(kind))
    assert contents(out) == wanted[kind]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("moment", ["rename:8", "rename:9", "remove:3"])
def test_a_kill_while_replacing_never_loses_both(
    source: Path, wanted: dict[Kind, dict[str, bytes]], tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "out"
    (tmp_path / "old.txt").write_text("an old caption\n")
    build(tmp_path / "old.txt", out, Options(name="old"))
    build_until(moment, source, out, Kind.CAPTIONS)
    build(source, out, options())
    assert contents(out) == wanted[Kind.CAPTIONS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.txt", "out"]


def half_built(source: Path, out: Path) -> None:
    """Some shards done."""
    done: list[int] = []

    def failing(captions: Sequence[str]) -> FloatArray:
        done.append(len(captions))
        if len(done) > 3:
            return refusing(captions)
        return embed_by_hash([caption.encode() for caption in captions], MODEL.embed_dim)

    with pytest.raises(RuntimeError, match="the power went"):
        build(source, out, options(), FakeEmbedder(MODEL, failing))


def test_shards_that_are_done_are_not_embedded_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    half_built(source, out)
    embedded: list[str] = []

    def watch(captions: Sequence[str]) -> FloatArray:
        embedded.extend(captions)
        return embed_by_hash([caption.encode() for caption in captions], MODEL.embed_dim)

    build(source, out, options(), FakeEmbedder(MODEL, watch))
    whole = Collection.open(out)
    assert 0 < len(embedded) < len(whole)
    assert whole.texts(np.arange(len(whole)))[-len(embedded) :] == embedded


def other_kind(source: Path, out: Path) -> None:
    build(source, out, options(Kind.PAIRS))


def other_model(source: Path, out: Path) -> None:
    other = ModelStamp(name="fake", fingerprint="cd" * 32, embed_dim=8)
    build(source, out, options(), FakeEmbedder(other))


def other_sources(source: Path, out: Path) -> None:
    (source.parent / "more.txt").write_text("more\n")
    found = detect([source, source.parent / "more.txt"])
    build_collection(found, out, FakeEmbedder(MODEL), options())


def other_shards(source: Path, out: Path) -> None:
    build(source, out, Options(name="x", shard_records=SHARD + 1))


def damaged_plan(source: Path, out: Path) -> None:
    (out.parent / ".out.partial" / PLAN).write_bytes(b"\xff{")
    build(source, out, options())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (other_kind, "kind"),
        (other_model, "model"),
        (other_sources, "sources"),
        (other_shards, "shard_records"),
        (damaged_plan, PLAN),
    ],
)
def test_an_unfinished_build_of_something_else_is_not_mixed_in(
    source: Path, tmp_path: Path, other: Callable[[Path, Path], None], named: str
) -> None:
    out = tmp_path / "out"
    half_built(source, out)
    with pytest.raises(
        CollectionError, match=rf"unfinished build of other {re.escape(named)}"
    ) as e:
        other(source, out)
    assert "--restart" in str(e.value)
    assert not out.exists()


def test_an_unfinished_build_can_be_thrown_away(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    half_built(source, out)
    build(source, out, options(Kind.PAIRS, restart=True))
    assert read_manifest(out).kind is Kind.PAIRS
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_build_that_failed_before_its_first_shard_binds_nobody(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError):
        build(source, out, options(), FakeEmbedder(MODEL, refusing))
    build(source, out, options(Kind.PAIRS))
    assert read_manifest(out).kind is Kind.PAIRS


def test_a_shard_that_stands_after_a_gap_is_kept(
    source: Path, wanted: dict[Kind, dict[str, bytes]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    half_built(source, out)
    shutil.rmtree(tmp_path / ".out.partial/shards/000001")
    embedded: list[int] = []

    def watch(captions: Sequence[str]) -> FloatArray:
        embedded.append(len(captions))
        return embed_by_hash([caption.encode() for caption in captions], MODEL.embed_dim)

    build(source, out, options(), FakeEmbedder(MODEL, watch))
    assert contents(out) == wanted[Kind.CAPTIONS]
    assert len(embedded) == -(-(RECORDS + 1) // SHARD) - 2


def test_a_shard_is_minutes_of_work_for_either_kind() -> None:
    assert set(SHARD_RECORDS) == set(Kind)


def test_two_builds_into_one_place_do_not_meet(tmp_path: Path) -> None:
    source = tmp_path / "captions.txt"
    source.write_text("a cat\na dog\n")
    out = tmp_path / "out"
    other = FileLock(tmp_path / ".out.lock")
    with other, pytest.raises(CollectionError, match="another process is building"):
        build_collection(detect([source]), out, FakeEmbedder(MODEL), Options(name="x"))
    assert not out.exists()
    build_collection(detect([source]), out, FakeEmbedder(MODEL), Options(name="x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.txt", "out"]
