"""The OpenAPI document: whole, valid, and true about what is refused."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import SecretStr

from app.engine import Engine
from app.main import create_app
from app.settings import Settings
from tests.photos import encode, gradient

KEY = "a-key-for-the-document"
PNG = encode(gradient())
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def guarded(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[TestClient]:
    settings = tiny_settings.model_copy(update={"api_keys": [SecretStr(KEY)]})
    with TestClient(create_app(settings, lambda _: tiny_engine)) as client:
        yield client


@pytest.fixture(scope="module")
def document(guarded: TestClient) -> Any:
    return guarded.get("/openapi.json").json()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def properties(document: Any) -> Iterator[tuple[str, Any]]:
    for name, schema in document["components"]["schemas"].items():
        for key, field in schema.get("properties", {}).items():
            yield f"{name}.{key}", field


def test_it_is_valid(document: Any, client: TestClient) -> None:
    validate(document)
    validate(client.get("/openapi.json").json())


def test_every_field_is_described(document: Any) -> None:
    fields = list(properties(document))
    assert len(fields) > 60
    assert [name for name, field in fields if not field.get("description")] == []
    components = document["components"]
    for kind in ("parameters", "headers", "securitySchemes"):
        for name, it in components[kind].items():
            assert it["description"], name


def test_every_number_has_a_range(document: Any) -> None:
    numbers = [
        (name, kind)
        for name, field in properties(document)
        for kind in field.get("anyOf", [field])
        if kind.get("type") in ("integer", "number")
    ]
    assert numbers
    assert [name for name, kind in numbers if "minimum" not in kind] == []


def test_operations_are_named_and_grouped_as_clients_want_them(document: Any) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)
    known = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations(document):
        (tag,) = operation["tags"]
        assert tag in known, name


def test_every_error_has_an_example_of_its_own_status(document: Any) -> None:
    schema = {"$ref": "#/components/schemas/ProblemDocument", **document}
    problem = Draft202012Validator(schema)
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            examples = response["content"][PROBLEM]["examples"]
            assert examples, (name, status)
            for example in examples.values():
                problem.validate(example["value"])
                assert example["value"]["status"] == int(status)


def test_headers_are_documented_where_they_are_sent(document: Any) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            headers = set(response["headers"])
            assert "X-Request-ID" in headers, name
            assert ("WWW-Authenticate" in headers) == (status == "401"), name
            if status == "429":
                assert response["headers"]["Retry-After"]["required"], name


def form(files: list[bytes] | None = None, **data: Any) -> dict[str, Any]:
    uploads = [("image", ("photo.jpg", file)) for file in (files or [PNG])]
    return {"files": uploads, "data": {"labels": ["cat", "dog"]} | data}


def task(inputs: str = "YQ==", **parameters: Any) -> dict[str, Any]:
    return {"json": {"inputs": inputs, "parameters": parameters}}


CLASSIFY, ZERO_SHOT = "/v1/classify", "/v1/zero-shot-image-classification"
SEARCH = "/v1/captions/search"
BROKEN = {
    "content": b"--b\r\n",
    "headers": {"content-type": "multipart/form-data; boundary=b"},
}


@pytest.mark.parametrize(
    ("path", "request_", "status", "example"),
    [
        (CLASSIFY, BROKEN, "400", "half a form"),
        (CLASSIFY, form([b"x" * 200_001]), "413", "large file"),
        (CLASSIFY, form([encode(gradient(2000, 501))]), "413", "many pixels"),
        (CLASSIFY, form([PNG] * 5), "413", "many files"),
        (CLASSIFY, form([b"%PDF-1.7"]), "415", "no image"),
        (CLASSIFY, {"json": {}}, "415", "other content"),
        (CLASSIFY, form(labels="[]"), "422", "no label"),
        (CLASSIFY, form(labels=["cat", "cat"]), "422", "repeated label"),
        (CLASSIFY, form(captions=65), "422", "out of range"),
        (CLASSIFY, form(index="art"), "422", "no such collection"),
        (CLASSIFY, form(lables="cat"), "422", "no such field"),
        (ZERO_SHOT, task("YQ=", candidate_labels=["a"]), "400", "no base64"),
        (ZERO_SHOT, {"content": b"{", "headers": {"content-type": "application/json"}}, "400",
         "no JSON"),
        (ZERO_SHOT, {"content": b"", "headers": {"content-type": "text/plain"}}, "415",
         "other content"),
        (ZERO_SHOT, task(candidate_labels=[]), "422", "no label"),
        (ZERO_SHOT, task(), "422", "missing key"),
        (SEARCH, {"json": {}}, "415", "other content"),
        (SEARCH, {"data": {"k": 1}}, "422", "image or text"),
        (SEARCH, {"data": {"text": " "}}, "422", "blank text"),
    ],
)  # fmt: skip
def test_an_example_says_what_is_answered(
    guarded: TestClient, document: Any, path: str, request_: Any, status: str, example: str
) -> None:
    headers = {"Authorization": f"Bearer {KEY}"} | request_.get("headers", {})
    response = guarded.post(path, **request_ | {"headers": headers})
    responses = document["paths"][path]["post"]["responses"]
    documented = responses[status]["content"][PROBLEM]["examples"][example]["value"]
    assert without_numbers(response.json()) == without_numbers(documented)


def without_numbers(problem: dict[str, Any]) -> str:
    """A problem, whatever its limits and whatever the collection's name."""
    return re.sub(r"\d+", "0", str(problem)).replace("tiny-index", "default")


def test_the_example_of_a_missing_key_is_what_is_answered(
    guarded: TestClient, document: Any
) -> None:
    responses = document["paths"]["/v1/info"]["get"]["responses"]
    examples = responses["401"]["content"][PROBLEM]["examples"]
    assert guarded.get("/v1/info").json() == examples["no key"]["value"]
