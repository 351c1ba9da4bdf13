"""What the served OpenAPI document promises, tried on the carried model behind the real server."""

import base64
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from playwright.sync_api import Page, sync_playwright

from app.api.schemas import EXAMPLE_PNG
from app.settings import ROOT
from tests.serving import running

CHROMIUM = shutil.which("chromium")
KEY = "a-key-for-documented-requests"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XMORE_")}
    log = tmp_path_factory.mktemp("documented") / "log"
    with running(environment | {"XMORE_PORT": "0", "XMORE_API_KEYS": KEY}, log) as server:
        server.client.headers["Authorization"] = f"Bearer {KEY}"
        yield server.client


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def names(document: Any) -> list[tuple[str, str]]:
    return [(method, path) for path, methods in document["paths"].items() for method in methods]


def example(document: Any, schema: Any) -> Any:
    """What the document gives as an example of a schema, without what is left out of it."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] | schema
    if "examples" in schema:
        return schema["examples"][0]
    return {
        name: example(document, field)
        for name, field in schema.get("properties", {}).items()
        if "examples" in field or "$ref" in field
    }


def request_of(document: Any, operation: Any) -> dict[str, Any]:
    """The request that the document's examples make; a file is the picture that `/docs` offers."""
    if "requestBody" not in operation:
        return {}
    ((media_type, content),) = operation["requestBody"]["content"].items()
    given = example(document, content["schema"])
    if media_type == "application/json":
        return {"json": given}
    if "labels" in given:
        picture = ("image", ("example.png", base64.b64decode(EXAMPLE_PNG)))
        return {"data": given, "files": [picture]}
    return {"data": given}


def test_the_examples_are_answered_as_documented(client: httpx.Client, document: Any) -> None:
    asked = 0
    for method, path in names(document):
        operation = document["paths"][path][method]
        response = client.request(method, path, **request_of(document, operation))
        assert response.status_code == 200, (path, response.text)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(document | schema).validate(response.json())
        asked += 1
    assert asked == 7


def test_the_examples_ask_something_that_has_an_answer(client: httpx.Client, document: Any) -> None:
    path = "/v1/zero-shot-image-classification"
    request = request_of(document, document["paths"][path]["post"])
    best = client.post(path, **request).json()[0]
    assert best["label"] == "traffic light"
    assert best["score"] > 0.5


def generate(folder: Path) -> None:
    """A client package `generated` from the committed document."""
    command = ["-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    places = ["--path", str(ROOT / "docs" / "openapi.json"), "--output-path"]
    # The generator looks for its formatter, ruff, on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, *command, *places, str(folder / "generated")],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_generated_client_gets_its_answer(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("generated")
    classify = importlib.import_module("generated.api.classification.classify")
    models = importlib.import_module("generated.models")
    types = importlib.import_module("generated.types")
    picture = types.File(payload=base64.b64decode(EXAMPLE_PNG), file_name="example.png")
    body = models.BodyClassify(image=[picture], labels=["cat", "traffic light"], top_k=1)
    with package.AuthenticatedClient(base_url=str(client.base_url), token=KEY) as caller:
        answer = classify.sync(client=caller, body=body, x_request_id="generated-1")
    (prediction,) = answer.results[0].predictions
    assert (prediction.label, answer.results[0].filename) == ("traffic light", "example.png")
    with package.AuthenticatedClient(base_url=str(client.base_url), token=KEY[:-1]) as stranger:
        refused = classify.sync_detailed(client=stranger, body=body)
    assert refused.status_code == 401
    assert isinstance(refused.parsed, models.ProblemDocument)


@pytest.fixture(scope="module")
def page(client: httpx.Client) -> Iterator[Page]:
    """`/docs` in a browser, with the key entered."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(str(client.base_url.join("/docs")))
        page.get_by_role("button", name="Authorize").click()
        page.get_by_label("auth-bearer-value").fill(KEY)
        page.get_by_label("Apply credentials").click()
        page.get_by_role("button", name="Close").click()
        yield page
        browser.close()


def test_every_route_runs_from_the_page_as_it_is_filled_in(
    page: Page, client: httpx.Client, document: Any, tmp_path: Path
) -> None:
    picture = tmp_path / "example.png"
    picture.write_bytes(client.get("/docs/example.png").content)
    for method, path in names(document):
        operation = document["paths"][path][method]
        block = page.locator(f"#operations-{operation['tags'][0]}-{operation['operationId']}")
        block.locator(".opblock-summary-control").click()
        if path == "/v1/classify":
            block.locator("input[type=file]").first.set_input_files(picture)
        block.get_by_role("button", name="Execute").click()
        status = block.locator(".live-responses-table tr.response td.response-col_status").first
        status.wait_for()
        assert status.inner_text().split()[0] == "200", (path, block.inner_text())
