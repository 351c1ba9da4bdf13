"""What goes wrong is said in words, where it went wrong, and can be tried again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import BrowserContext, expect
from pydantic import SecretStr

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.serving import connect, head, serving, wait_for
from tests.web.conftest import Visit, photo

KEY = "a-key-for-the-page-0123"


def application(settings: Settings, engine: Engine, **changes: Any) -> tuple[FastAPI, Settings]:
    changed = settings.model_copy(update=changes)
    return create_app(changed, lambda _: engine), changed


@pytest.fixture
def visit_of(context: BrowserContext) -> Any:
    """Make a visit of a server of one's own; its errors are expected."""
    return lambda client, path="/": Visit(context.new_page(), str(client.base_url.join(path)))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.png", b"no image at all", "not an image"),
        ("b.png", b"x" * 300_000, "0.3 MiB, at most 0.2 MiB"),
    ],
)
def test_a_bad_photo_is_named_beside_the_photo(
    visit_of: Any, tiny_settings: Settings, tiny_engine: Engine, name: str, data: bytes, said: str
) -> None:
    app, settings = application(tiny_settings, tiny_engine)
    with serving(app, settings) as client:
        visit = visit_of(client)
        visit.open()
        visit.choose({"name": name, "mimeType": "image/png", "buffer": data}, photo("good.png"))
        error = visit.page.locator("#photo-error")
        expect(error).to_contain_text(name)
        expect(error).to_contain_text(said)
        expect(visit.page.get_by_label("Choose a photo")).to_have_attribute("aria-invalid", "true")
        visit.page.locator("#photos").get_by_role("button", name="good.png", exact=True).click()
        visit.wait_for_answer()
        expect(error).to_be_empty()


def test_a_bad_label_is_named_beside_the_labels(
    visit_of: Any, tiny_settings: Settings, tiny_engine: Engine
) -> None:
    app, settings = application(tiny_settings, tiny_engine)
    with serving(app, settings) as client:
        visit = visit_of(client)
        visit.open()
        visit.choose(photo())
        visit.wait_for_answer()
        visit.page.get_by_label("Add a label").fill(f"{'x' * 41},")
        expect(visit.page.locator("#label-error")).to_have_text(
            "Label 9 has 41 characters, at most 40 are allowed."
        )
        expect(visit.page.locator("#failure")).to_be_hidden()
        visit.page.get_by_role("button", name=f"Remove {'x' * 41}").click()
        visit.wait_for_answer()
        expect(visit.page.locator("#label-error")).to_be_empty()


def test_a_server_that_is_gone_is_told_and_asked_again(
    visit_of: Any, tiny_settings: Settings, tiny_engine: Engine
) -> None:
    app, settings = application(tiny_settings, tiny_engine)
    with serving(app, settings) as client:
        visit = visit_of(client)
        visit.open()
    visit.choose(photo())
    expect(visit.page.get_by_role("alert").filter(has_text="cannot be reached")).to_be_visible()
    assert client.base_url.port
    again, _ = application(tiny_settings, tiny_engine)
    with serving(again, settings, client.base_url.port):
        visit.page.get_by_role("button", name="Try again now").click()
        visit.wait_for_answer()
        expect(visit.page.locator("#failure")).to_be_hidden()


def test_a_busy_server_is_asked_again_when_it_says(
    visit_of: Any, tiny_settings: Settings, tiny_engine: Engine
) -> None:
    app, settings = application(tiny_settings, tiny_engine, max_queue=1)
    with serving(app, settings) as client:
        visit = visit_of(client)
        visit.open()
        with connect(client) as other:
            other.sendall(head("/v1/classify", 1000))
            wait_for(lambda: app.state.gate.depth == 1)
            visit.choose(photo())
            told = visit.page.locator("#failure-text")
            expect(told).to_contain_text("The service is busy")
            expect(told).to_contain_text("Trying again in a second.")
        visit.wait_for_answer()


def test_a_key_is_asked_for_and_kept_only_in_this_tab(
    visit_of: Any, tiny_settings: Settings, tiny_engine: Engine
) -> None:
    app, settings = application(tiny_settings, tiny_engine, api_keys=[SecretStr(KEY)])
    with serving(app, settings) as client:
        visit = visit_of(client)
        page = visit.page
        page.goto(visit.url)
        entry = page.get_by_label("This server asks for an API key.")
        expect(entry).to_be_focused()
        entry.fill("a-wrong-key-0123456789")
        entry.press("Enter")
        another = page.get_by_label("The server did not accept this key. Another one?")
        expect(another).to_have_value("")
        another.fill(KEY)
        another.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        visit.choose(photo())
        visit.wait_for_answer()
        command = page.locator("#curl").text_content()
        assert '-H "Authorization: Bearer $XMORE_API_KEY"' in command
        assert KEY not in command
        page.reload()
        expect(page.locator("#serving")).not_to_be_empty()
        assert page.evaluate("Object.values(localStorage)") == []
        assert page.evaluate("Object.values(sessionStorage)") == [KEY]


def test_it_works_below_a_path_of_a_proxy(
    visit_of: Any, tiny_settings: Settings, tiny_engine: Engine
) -> None:
    inner, settings = application(tiny_settings, tiny_engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.mount("/below", inner)
    outer.state.gate = inner.state.gate
    with serving(outer, settings) as client:
        visit = visit_of(client, "/below/")
        visit.open()
        visit.choose(photo())
        visit.wait_for_answer()
        assert f"{client.base_url.join('/below/v1/classify')}" in (
            visit.page.locator("#curl").text_content()
        )
        visit.page.get_by_role("link", name="API").click()
        expect(visit.page.locator("#swagger-ui .title")).to_be_visible()


def test_a_collection_is_chosen_where_there_are_several(
    visit_of: Any, tiny_settings: Settings
) -> None:
    index = f"one={tiny_settings.index},other={tiny_settings.index}"
    settings = tiny_settings.model_copy(update={"index": index})
    with serving(create_app(settings), settings) as client:
        visit = visit_of(client)
        visit.open()
        visit.choose(photo())
        visit.wait_for_answer()
        with visit.page.expect_response("**/v1/classify") as answered:
            visit.page.get_by_label("Captions from").select_option("other")
        assert answered.value.json()["index"] == "other"
        visit.wait_for_answer()
        expect(visit.page.locator("#curl")).to_contain_text("index=other")
