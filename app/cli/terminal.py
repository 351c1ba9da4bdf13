"""What all commands share: where they print, how they fail, and where settings come from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from app.index.manifest import CollectionAwayError, CollectionError
from app.settings import Settings

out = Console()
errors = Console(stderr=True)


def say(line: str, style: str | None = None) -> None:
    """A line on stdout, as it is: names and labels may hold brackets."""
    out.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def say_aside(line: str) -> None:
    """A line on stderr, as it is."""
    errors.print(Text(line), highlight=False, soft_wrap=True)


def say_error(message: str) -> None:
    """A line on stderr that something is wrong."""
    errors.print(Text.assemble(("error: ", "red"), message), highlight=False, soft_wrap=True)


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong and end."""
    say_error(message)
    raise typer.Exit(code)


@contextmanager
def failures_in_words() -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and exit code 1."""
    from app.clip.labels import LabelFileError
    from app.clip.weights import ModelError

    try:
        yield
    except BrokenPipeError:
        # Whoever read the output has enough: typer ends quietly.
        raise
    except (
        CollectionAwayError,
        CollectionError,
        LabelFileError,
        ModelError,
        OSError,
    ) as error:
        fail(str(error))


def read_settings(**overrides: Any) -> Settings:
    """Settings from the environment and the options given; wrong ones end in exit code 2."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        for item in error.errors():
            name = "_".join(["XMORE", *(str(part).upper() for part in item["loc"])])
            say_error(f"{name}: {item['msg']}")
        raise typer.Exit(2) from None
