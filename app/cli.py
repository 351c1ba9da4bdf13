"""The command line: `xmore serve`, `xmore classify`, `xmore index`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app import __version__
from app.settings import Settings
from app.xmore.ensemble import Fusion

app = typer.Typer(
    name="xmore",
    help="Zero-shot image classification with the reasons attached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
index_app = typer.Typer(help="Caption collections: build one, look at one.", no_args_is_help=True)
app.add_typer(index_app, name="index")

_out = Console()
_errors = Console(stderr=True)

_BAR_WIDTH = 28
_CAPTIONS_SHOWN = 5


def _version(wanted: bool) -> None:
    if wanted:
        _out.print(f"xmore {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Zero-shot image classification with the reasons attached."""


@contextmanager
def _failures_in_words() -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and exit code 1."""
    from app.clip.model import ModelError
    from app.engine import BadImageError
    from app.index.manifest import CollectionError

    try:
        yield
    except (BadImageError, CollectionError, ModelError, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> None:
    _say_error(message)
    raise typer.Exit(1)


def _say_error(message: str) -> None:
    # Text, not markup: file names and labels may hold brackets.
    _errors.print(Text.assemble(("error: ", "red"), message), highlight=False, soft_wrap=True)


def _settings(**overrides: Any) -> Settings:
    """Settings from the environment and the options given; wrong ones end in exit code 2."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        for item in error.errors():
            name = "_".join(["XMORE", *(str(part).upper() for part in item["loc"])])
            _say_error(f"{name}: {item['msg']}")
        raise typer.Exit(2) from None


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [XMORE_HOST]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on. [XMORE_PORT]")
    ] = None,
) -> None:
    """Serve the REST API until stopped."""
    from app import logs
    from app.main import create_app
    from app.server import Server

    settings = _settings(host=host, port=port)
    logs.configure(settings.log_level)
    server = Server(create_app(settings), settings)
    # uvicorn exits with a number of its own; the log has said why.
    with suppress(SystemExit):
        server.run()
    if not server.started:
        raise typer.Exit(1)


@app.command()
def classify(
    images: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Image files.")
    ],
    labels: Annotated[
        list[str], typer.Option("--label", "-l", help="A label to choose from; repeat it.")
    ],
    template: Annotated[
        list[str] | None,
        typer.Option("--template", "-t", help="A prompt with one {}; repeat it for an ensemble."),
    ] = None,
    captions: Annotated[
        int, typer.Option("--captions", "-k", min=0, max=64, help="How many captions vote.")
    ] = 16,
    fusion: Annotated[
        Fusion, typer.Option(help="How the votes of image and captions become one.")
    ] = Fusion.CONFIDENCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Classify images in this process, without a server."""
    from app.api.parsing import check_labels, check_templates
    from app.api.problems import Problem
    from app.clip.labels import DEFAULT_TEMPLATE
    from app.engine import Engine, ImageFile, Question

    settings = _settings()
    try:
        question = Question(
            labels=check_labels([label.strip() for label in labels], "--label", settings),
            templates=check_templates(template or [DEFAULT_TEMPLATE], "--template", settings),
            captions=captions,
            fusion=fusion,
        )
    except Problem as problem:
        raise typer.BadParameter(problem.detail) from None
    with _failures_in_words():
        engine = Engine.load(settings)
        results = [
            engine.classify([ImageFile(str(path), path.read_bytes())], question).results[0]
            for path in images
        ]
    if as_json:
        json.dump([asdict(result) for result in results], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    for result in results:
        _print_result(result)


def _print_result(result: Any) -> None:
    """One image's answer as a table with bars, and the captions that spoke for it."""
    table = Table(
        title=Text(result.filename),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    table.add_column("label")
    table.add_column("fused", justify="right")
    table.add_column("")
    table.add_column("image", justify="right", style="dim")
    table.add_column("captions", justify="right", style="dim")
    for p in result.predictions:
        table.add_row(
            Text(p.label),
            f"{p.probability:.1%}",
            ProgressBar(total=1.0, completed=p.probability, width=_BAR_WIDTH),
            f"{p.image_probability:.1%}",
            "-" if p.text_probability is None else f"{p.text_probability:.1%}",
        )
    _out.print(table)
    _out.print(
        f"weights: image {result.image.weight:.2f} (confidence {result.image.confidence:.2f}), "
        f"captions {result.text.weight:.2f} (confidence {result.text.confidence:.2f})",
        highlight=False,
    )
    for caption in result.captions[:_CAPTIONS_SHOWN]:
        _say(f"  {caption.similarity:.3f}  {caption.text}", style="dim")
    _out.print()


@index_app.command("build")
def index_build(
    source: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="A caption a line, UTF-8."),
    ],
    out: Annotated[Path, typer.Option(help="The directory to make.")],
    name: Annotated[str | None, typer.Option(help="Its name; default: the directory's.")] = None,
    model: Annotated[str | None, typer.Option(help="The model to build for. [XMORE_MODEL]")] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Weights of an architecture. [XMORE_PRETRAINED]")
    ] = None,
) -> None:
    """Build a caption collection from a text file, for the model that will serve it."""
    from app.clip.model import load_model
    from app.engine import stamp
    from app.index.build import build_collection, unique_captions

    settings = _settings(model=model, pretrained=pretrained)
    with _failures_in_words(), _progress() as progress:
        encoder = load_model(settings.model, settings.pretrained, settings.precision)
        try:
            captions = list(unique_captions(source.read_text(encoding="utf-8-sig").split("\n")))
        except UnicodeDecodeError as error:
            _fail(f"{source} is not UTF-8 text ({error})")
        task = progress.add_task("captions", total=len(captions))
        manifest = build_collection(
            captions,
            out,
            name or out.resolve().name,
            stamp(encoder),
            encoder.encode_texts,
            progress=lambda count: progress.advance(task, count),
        )
    _say(f"{out}: {manifest.captions} captions, FAISS {manifest.faiss.factory}")


@index_app.command("info")
def index_info(
    directory: Annotated[Path, typer.Argument(help="A caption collection.")],
) -> None:
    """Show what a collection is and which model it belongs to."""
    from app.index.collection import Collection

    with _failures_in_words():
        collection = Collection.open(directory)
    manifest = collection.manifest
    rows = {
        "name": manifest.name,
        "kind": manifest.kind,
        "captions": str(manifest.captions),
        "model": f"{manifest.model.name} ({manifest.model.fingerprint[:12]})",
        "dimension": str(manifest.model.embed_dim),
        "FAISS": manifest.faiss.factory,
        "size": f"{sum(file.bytes for file in manifest.files.values()) / 1e6:.1f} MB",
        "fingerprint": manifest.fingerprint,
    }
    for key, value in rows.items():
        _say(f"{key:<12} {value}")


def _say(line: str, style: str | None = None) -> None:
    _out.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_errors,
    )
