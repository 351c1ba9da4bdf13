"""A served application for made-up requests, and how many of them are made.

`XMORE_FUZZ_EXAMPLES=10000 python -m pytest tests/fuzz` is the long run, another one every time; the
short run is always the same.
"""

import os
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.serving import serving

LONG = "XMORE_FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("XMORE_FUZZ_EXAMPLES", "60"))
KEY = "a-key-for-made-up-requests"
LIMIT_S = 20.0
"""No answer takes as long as this, on however slow a machine."""

fuzzing = settings(
    max_examples=EXAMPLES,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ],
)


@pytest.fixture(scope="session")
def served(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[httpx.Client]:
    """A client of a real server over the tiny model, which gives up after the limit."""
    settings = tiny_settings.model_copy(update={"api_keys": [SecretStr(KEY)]})
    app = create_app(settings, lambda _: tiny_engine)
    with serving(app, settings) as client:
        client.timeout = httpx.Timeout(LIMIT_S)
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client
