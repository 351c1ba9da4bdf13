"""The application over the tiny model, and a client for it."""

import base64
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.photos import encode, gradient


@pytest.fixture(scope="session")
def client(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(tiny_settings, lambda _: tiny_engine)) as client:
        yield client


@pytest.fixture(scope="session")
def png_base64() -> str:
    return base64.b64encode(encode(gradient())).decode()
