"""The OpenAPI page works without a network, and its document tells what the routes do."""

import re

from fastapi.testclient import TestClient

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.serving import serving


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    resources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert any(url.endswith(".js") for url in resources)
    for url in resources:
        assert url.startswith("/"), url
        assert client.get(url).status_code == 200, url


def test_below_a_path_of_a_proxy_the_page_finds_its_parts(
    tiny_settings: Settings, tiny_engine: Engine
) -> None:
    settings = tiny_settings.model_copy(update={"root_path": "/below/it"})
    app = create_app(settings, lambda _: tiny_engine)
    with serving(app, settings) as client:
        page = client.get("/docs").text
        addresses = re.findall(r"""(?:src|href|url)(?:=|: )["']([^"']+)""", page)
        assert "/below/it/openapi.json" in addresses
        for address in addresses:
            assert address.startswith("/below/it/"), address
            assert client.get(address.removeprefix("/below/it")).status_code == 200, address
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/below/it"}]
        assert client.get("/").status_code == 200
        assert client.get("/v1/info").status_code == 200


def test_every_error_is_documented_as_a_problem(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                kinds = set(response["content"])
                wanted = "application/problem+json" if status >= "400" else "application/json"
                assert kinds == {wanted}, (path, status)
