"""The command line, `xmore`: one file a command or group of commands.

torch, FastAPI and FAISS are imported only by the commands that need them, when they run.
"""

from typing import Annotated

import typer

from app import __version__
from app.cli import terminal
from app.cli.classify import classify
from app.cli.evaluate import evaluate
from app.cli.index import index_app
from app.cli.models import models_app
from app.cli.serve import serve

app = typer.Typer(
    name="xmore",
    help="Zero-shot image classification with the reasons attached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(classify)
app.command()(evaluate)
app.add_typer(index_app, name="index")
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        terminal.out.print(f"xmore {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Zero-shot image classification with the reasons attached."""
