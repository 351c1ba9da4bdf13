"""One engine for all tests of a module: each test has collections of its own in it."""

from collections.abc import Iterator

import pytest

from app.index.collection import Collection
from tests.index.milvus import collections
from tests.index.milvus.engine import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("milvus") / "data.db")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return collections.captions(tmp_path_factory.mktemp("milvus") / "captions")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return collections.pairs(tmp_path_factory.mktemp("milvus") / "pairs")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A collection's name that no other test has."""
    return f"c{abs(hash(request.node.nodeid))}"
