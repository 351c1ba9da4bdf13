"""The OpenAPI document, brought to what readers and client generators need of it.

FastAPI writes the most of it; here is added what it has no place for: the schema of problems, the
request id, and keys only where there are any.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from app.api.access import Keys
from app.api.problems import ProblemDocument

TAGS = [
    {"name": "classification", "description": "Images and labels in, probabilities out."},
    {"name": "captions", "description": "The caption collections that vote."},
    {"name": "service", "description": "What serves, and whether it does."},
]

_FORM = "Body_"
"""How FastAPI begins the names of its schemas of forms."""

_REQUEST_ID = "X-Request-ID"
_REQUEST_ID_RULE = "1 to 128 letters, digits, dots, dashes or underscores"

_PARAMETER = {
    "name": _REQUEST_ID,
    "in": "header",
    "required": False,
    "description": f"An id of the client's own, for logs and answers: {_REQUEST_ID_RULE}. "
    "Anything else is replaced by a new one.",
    "schema": {"type": "string"},
}
_HEADER = {
    "description": "The id of this request in the server's log: the client's own, or a new one.",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


def operation_id(route: APIRoute) -> str:
    """The name of the route's function, which generated clients take for theirs."""
    return route.name


def install(app: FastAPI, keys: Keys) -> None:
    """Let the application describe itself so."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            _complete(document)
            if not keys:
                _drop_security(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _complete(document: dict[str, Any]) -> None:
    components = document["components"]
    _, problem = models_json_schema(
        [(ProblemDocument, "serialization")], ref_template="#/components/schemas/{model}"
    )
    components["schemas"] |= problem["$defs"]
    components["parameters"] = {"RequestId": _PARAMETER}
    components["headers"] = {"RequestId": _HEADER}
    for name, schema in components["schemas"].items():
        if name.startswith(_FORM):
            _say_what_a_form_holds(schema)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.setdefault("parameters", []).append(
                {"$ref": "#/components/parameters/RequestId"}
            )
            for response in operation["responses"].values():
                response.setdefault("headers", {})[_REQUEST_ID] = {
                    "$ref": "#/components/headers/RequestId"
                }


def _say_what_a_form_holds(schema: dict[str, Any]) -> None:
    """No field but those named, none of them null, and files by the word that generators know."""
    schema["additionalProperties"] = False
    for field in schema["properties"].values():
        (kind,) = [it for it in field.pop("anyOf", [{}]) if it.get("type") != "null"]
        field.update(kind)
        value = field.get("items", field)
        if value.pop("contentMediaType", None):
            value["format"] = "binary"


def _drop_security(document: dict[str, Any]) -> None:
    del document["components"]["securitySchemes"]
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
