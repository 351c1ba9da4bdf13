"""The documented commands and options are those that the code has."""

import re
from collections.abc import Iterator

import typer
from typer.core import TyperGroup
from typer.main import get_command

from app.cli import app
from app.cli.reference import commands_page
from app.settings import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
ADVICE = "run `python -m app.cli.reference > docs/commands.md`"


def sections(page: str) -> dict[str, set[str]]:
    """The options that stand under the title of each command."""
    _, *parts = re.split(r"^#+ `(xmore[^`]*)`$", page, flags=re.MULTILINE)
    titles, texts = parts[::2], parts[1::2]
    return {
        title: set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        for title, text in zip(titles, texts, strict=True)
    }


def commands(command: typer.core.TyperCommand | TyperGroup, path: str) -> Iterator[str]:
    """`xmore index`, `xmore index build` and so on."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


def test_every_command_has_its_section() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    assert set(sections(PAGE)) == set(commands(command, "xmore")) - {"xmore"}, ADVICE


def test_every_option_is_in_its_section() -> None:
    assert sections(PAGE) == sections(commands_page()), ADVICE


def test_the_words_are_those_of_the_code() -> None:
    told = [line for line in commands_page().splitlines() if line.startswith("* `-")]
    assert [line for line in told if line.partition(": ")[2] not in PAGE] == [], ADVICE


def test_no_path_of_the_machine_that_wrote_it_stands_on_the_page() -> None:
    assert str(ROOT) not in commands_page()
