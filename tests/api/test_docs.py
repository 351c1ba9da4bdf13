"""The OpenAPI page works without a network, and its document tells what the routes do."""

import re

from fastapi.testclient import TestClient


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    resources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert any(url.endswith(".js") for url in resources)
    for url in resources:
        assert url.startswith("/"), url
        assert client.get(url).status_code == 200, url


def test_every_error_is_documented_as_a_problem(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                kinds = set(response["content"])
                wanted = "application/problem+json" if status >= "400" else "application/json"
                assert kinds == {wanted}, (path, status)
