"""The HTTP API for reading: `docs/openapi.json`, and `docs/http.md`, which is made from it."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings

Schema = dict[str, Any]

_HEAD = """\
# HTTP API

All routes of the service. This page is made from [openapi.json](openapi.json), which every server
also gives at `/openapi.json` and shows at `/docs`, where each route can be tried. Clients in other
languages can be generated from that file. The limits in brackets are the defaults; `GET /v1/info`
tells those of a server.

"""

_ERRORS = """\
## Errors

Every error is `application/problem+json`, as RFC 9457 has it:

```json
{}
```

{}
"""


def openapi_json() -> str:
    """The OpenAPI document of a service with default settings and keys, as JSON."""
    key = SecretStr("any key shows how keys are sent")
    document = create_app(Settings.model_construct(api_keys=[key])).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def http_page() -> str:
    """The document as a Markdown page."""
    return _Page(json.loads(openapi_json())).text()


class _Page:
    """Writes one document."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        self._schemas: Schema = document["components"]["schemas"]

    def text(self) -> str:
        return _HEAD + "\n".join([*self._headers(), *self._sections(), self._errors()])

    def _headers(self) -> Iterator[str]:
        components = self._document["components"]
        (scheme,) = components["securitySchemes"].values()
        (parameter,) = components["parameters"].values()
        (header,) = components["headers"].values()
        yield "| header | of | |\n|---|---|---|"
        yield _row("`Authorization`", "request", scheme["description"])
        yield _row(f"`{parameter['name']}`", "request", parameter["description"])
        yield _row(f"`{parameter['name']}`", "answer", header["description"])
        yield ""

    def _sections(self) -> Iterator[str]:
        for tag in self._document["tags"]:
            yield f"## {tag['name'].capitalize()}\n\n{tag['description']}\n"
            for path, operations in self._document["paths"].items():
                for method, operation in operations.items():
                    if tag["name"] in operation["tags"]:
                        yield from self._operation(f"{method.upper()} {path}", operation)

    def _operation(self, name: str, operation: Schema) -> Iterator[str]:
        yield f"### `{name}`\n\n{operation['summary']}.\n\n{operation['description']}\n"
        if "requestBody" in operation:
            ((media_type, content),) = operation["requestBody"]["content"].items()
            yield f"Request, `{media_type}`:\n"
            yield from self._table(content["schema"], mark_required=True)
        answer, *refusals = operation["responses"].items()
        schema = answer[1]["content"]["application/json"]["schema"]
        yield f"Answer, `application/json`: {answer[1]['description']}\n"
        yield from self._table(schema)
        yield "| status | | for instance |\n|---|---|---|"
        for status, response in refusals:
            (content,) = response["content"].values()
            details = [it["value"]["detail"] for it in content["examples"].values()]
            yield _row(status, response["description"], "<br>".join(details))
        yield ""

    def _table(self, schema: Schema, mark_required: bool = False) -> Iterator[str]:
        yield "| field | type | |\n|---|---|---|"
        yield from self._rows(schema, "", ", required" if mark_required else "")
        yield ""

    def _rows(self, schema: Schema, prefix: str, if_required: str) -> Iterator[str]:
        schema = self._resolved(schema)
        if schema.get("type") == "array":
            yield from self._rows(schema["items"], f"{prefix}[].", if_required)
            return
        required = schema.get("required", [])
        for name, field in schema.get("properties", {}).items():
            path = f"{prefix}{name}"
            mark = if_required if name in required else ""
            yield _row(
                f"`{path}`", self._type(field) + mark, field["description"] + _default(field)
            )
            inner = self._resolved(field)
            if inner.get("type") == "array":
                inner, path = self._resolved(inner["items"]), f"{path}[]"
            if "properties" in inner:
                yield from self._rows(inner, f"{path}.", if_required)

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" not in schema:
            return schema
        target: Schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return target | {key: value for key, value in schema.items() if key != "$ref"}

    def _type(self, schema: Schema) -> str:
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return " or ".join(self._type(it) for it in schema["anyOf"])
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        if schema["type"] == "array":
            return f"list of {self._type(schema['items'])}"
        if schema.get("format") == "binary":
            return "file"
        limits = [
            f"{sign} {schema[key]:g}"
            for key, sign in (("minimum", "≥"), ("maximum", "≤"))
            if key in schema
        ]
        return " ".join([schema["type"], ", ".join(limits)]).strip()

    def _errors(self) -> str:
        operation = self._document["paths"]["/v1/classify"]["post"]
        (content,) = operation["responses"]["422"]["content"].values()
        example = content["examples"]["repeated label"]["value"]
        table = "\n".join(self._table(content["schema"]))
        return _ERRORS.format(json.dumps(example, indent=2), table).rstrip() + "\n"


def _default(field: Schema) -> str:
    default = field.get("default")
    return "" if default is None else f" Default: `{default}`."


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
