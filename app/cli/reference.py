"""`python -m app.cli.reference`: all commands as a page of Markdown, `docs/commands.md`."""

import sys

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from app.cli import app


def commands_page() -> str:
    """The whole page."""
    command = get_command(app)
    context = typer.Context(command, info_name="xmore")
    return (
        get_docs_for_click(obj=command, ctx=context, name="xmore", title="Commands").strip() + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(commands_page())
