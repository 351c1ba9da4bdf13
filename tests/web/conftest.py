"""The page in a real browser, over the real server and the tiny model."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect, sync_playwright

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.photos import encode, gradient
from tests.serving import serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
"""Far more than anything takes, on however slow a machine."""

expect.set_options(timeout=PATIENCE_MS)


def photo(name: str = "photo.png", turned: int = 0) -> FilePayload:
    """A picture as a file that is chosen."""
    picture = encode(gradient().rotate(turned))
    return {"name": name, "mimeType": "image/png", "buffer": picture}


@dataclass
class Visit:
    """One tab on the page, and what it did beside showing it."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def open(self) -> None:
        """Open the page and wait until it knows what serves."""
        self.page.goto(self.url)
        expect(self.page.locator("#serving")).not_to_be_empty()

    def choose(self, *photos: FilePayload) -> None:
        self.page.locator("#file").set_input_files(list(photos))

    def wait_for_answer(self) -> None:
        expect(self.page.locator("#result")).to_be_visible()
        expect(self.page.locator("#answer")).to_have_attribute("aria-busy", "false")

    def labels(self) -> list[str]:
        """Labels as chips, each without its button."""
        return [text[:-1] for text in self.page.locator(".chips li").all_text_contents()]

    def predicted(self) -> dict[str, str]:
        """Labels of the answer with their shares as shown, best first."""
        items = self.page.locator("#predictions > li")
        names = items.locator(".label").all_inner_texts()
        return dict(zip(names, items.locator(".share").all_inner_texts(), strict=True))

    @property
    def asked(self) -> int:
        """How often the server was asked to classify."""
        return len([url for url in self.requests if url.endswith("/v1/classify")])


# A browser holds the event loop of its thread, which other tests need: it ends with this package.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=FLAGS, timeout=2 * PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[httpx.Client]:
    app = create_app(tiny_settings, lambda _: tiny_engine)
    with serving(app, tiny_settings) as client:
        yield client


@pytest.fixture
def context_options() -> dict[str, Any]:
    """How the browser presents itself; tests override it."""
    return {}


@pytest.fixture
def context(browser: Browser, context_options: dict[str, Any]) -> Iterator[BrowserContext]:
    context = browser.new_context(
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
        **context_options,
    )
    yield context
    context.close()


@pytest.fixture
def visit(context: BrowserContext, server: httpx.Client) -> Iterator[Visit]:
    """The page of the shared server, which must load nothing from elsewhere."""
    visit = Visit(context.new_page(), str(server.base_url))
    visit.open()
    yield visit
    for url in visit.requests:
        assert url.startswith((str(server.base_url), "blob:", "data:")), url
    assert visit.complaints == []
