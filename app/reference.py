"""The pages and files of `docs/` that the code writes.

python -m app.reference > docs/settings.md
python -m app.reference openapi > docs/openapi.json
python -m app.reference http > docs/http.md
"""

import argparse
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from app.settings import ROOT, Settings

_HEAD = """\
# Settings

Each setting is an environment variable. A file `.env` in the working directory is read too; the
environment wins. A value out of range stops the start and is named.

| variable | default | range | what it does |
|---|---|---|---|
"""


def settings_page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"{row}\n" for row in _rows())


def _rows() -> Iterator[str]:
    prefix = Settings.model_config.get("env_prefix", "")
    for name, field in Settings.model_fields.items():
        cells = (
            f"`{prefix}{name.upper()}`",
            _default(field),
            _range(field),
            str(field.description),
        )
        yield f"| {' | '.join(cells)} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default()
    if value is None or value in ([], (), ""):
        return "none"
    # Defaults inside the checkout are shown as they look from its root.
    return f"`{str(value).replace(f'{ROOT}/', '')}`"


def _range(field: FieldInfo) -> str:
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{member}`" for member in annotation)
    bounds = []
    for limit in field.metadata:
        match limit:
            case Ge(ge=low):
                bounds.append(f"≥ {low}")
            case Gt(gt=low):
                bounds.append(f"> {low}")
            case Le(le=high):
                bounds.append(f"≤ {high}")
            case Lt(lt=high):
                bounds.append(f"< {high}")
    return ", ".join(bounds) or "any"


def main() -> None:
    """Print one of them."""
    from app.api.reference import http_page, openapi_json

    pages = {"settings": settings_page, "openapi": openapi_json, "http": http_page}
    parser = argparse.ArgumentParser(description="Print a page or file of docs/.")
    parser.add_argument("page", nargs="?", choices=pages, default="settings")
    sys.stdout.write(pages[parser.parse_args().page]())


if __name__ == "__main__":
    main()
