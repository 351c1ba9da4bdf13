"""The command line: `xmore serve`, `xmore classify`, `xmore index`, `xmore evaluate`."""

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
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app import __version__
from app.evaluation.command import evaluate
from app.index.manifest import REPORT, Kind
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
app.command()(evaluate)

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
    from app.clip.labels import LabelFileError
    from app.clip.model import ModelError
    from app.engine import BadImageError
    from app.index.manifest import CollectionError

    try:
        yield
    except (BadImageError, CollectionError, LabelFileError, ModelError, OSError) as error:
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
    from app.engine import Engine
    from app.main import create_app
    from app.server import Server

    settings = _settings(host=host, port=port)
    logs.configure(settings.log_level)
    # Loaded before the server is made: what cannot be loaded is told in one line.
    with _failures_in_words():
        engine = Engine.load(settings)
    server = Server(create_app(settings, lambda _: engine), settings)
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
            ProgressBar(
                total=1.0,
                completed=p.probability,
                width=_BAR_WIDTH,
                complete_style="green",
                finished_style="green",
            ),
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


ModelOption = Annotated[str | None, typer.Option(help="The model of the collection. [XMORE_MODEL]")]
PretrainedOption = Annotated[
    str | None, typer.Option(help="Weights of an architecture. [XMORE_PRETRAINED]")
]
DirectoryArgument = Annotated[Path, typer.Argument(help="A caption collection.")]


@index_app.command("build")
def index_build(
    sources: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            readable=True,
            metavar="SOURCE...",
            help="Files (.txt, .csv, .tsv, .jsonl, .parquet, COCO .json, .tar) or folders.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The directory to make.")],
    kind: Annotated[
        Kind,
        typer.Option(help="captions: searched by their own embeddings; pairs: by their images'."),
    ] = Kind.CAPTIONS,
    name: Annotated[str | None, typer.Option(help="Its name; default: the directory's.")] = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    text_column: Annotated[
        str | None, typer.Option(help="The column (or JSON key, or number from 1) of captions.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="The column (or JSON key, or number from 1) of images.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="The folder of a table's images; default: its own."
        ),
    ] = None,
    factory: Annotated[
        str | None, typer.Option("--faiss", help="FAISS factory string; default: by size.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad row or image.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw an unfinished build away.")
    ] = False,
) -> None:
    """Build a caption collection for the model that will serve it; go on after a kill."""
    from app.clip.model import load_model
    from app.embedder import ClipEmbedder
    from app.index.build import Options, build_collection
    from app.index.shard import Step
    from app.index.sources.detect import detect
    from app.index.sources.record import Columns

    settings = _settings(model=model, pretrained=pretrained)
    with _failures_in_words(), _building() as progress:
        found = detect(sources, Columns(text_column, image_column), images)
        encoder = load_model(settings.model, settings.pretrained, settings.precision)
        task = progress.add_task("build", total=1.0, captions=0)
        embedded = 0

        def step(done: Step) -> None:
            nonlocal embedded
            embedded += done.captions
            progress.update(task, completed=done.share, captions=embedded)

        built = build_collection(
            found,
            out,
            ClipEmbedder(encoder, settings.max_pixels),
            Options(
                name=name or out.resolve().name,
                kind=kind,
                factory=factory,
                strict=strict,
                restart=restart,
            ),
            progress=step,
            say=lambda words: progress.console.print(Text(words), highlight=False),
        )
    manifest, report = built.manifest, built.report
    of_images = "" if manifest.images is None else f" of {manifest.images} images"
    _say(f"{out}: {manifest.captions} captions{of_images}, FAISS {manifest.faiss.factory}")
    if report.faults:
        _say_error_count(report.faults, out / REPORT)


def _say_error_count(faults: int, report: Path) -> None:
    _errors.print(
        Text(f"{faults} rows or images could not be used; {report} says which and why."),
        highlight=False,
        soft_wrap=True,
    )


@index_app.command("info")
def index_info(directory: DirectoryArgument) -> None:
    """Show what a collection is, which model it belongs to, and some of its captions."""
    import numpy as np

    from app.index.collection import Collection

    with _failures_in_words():
        collection = Collection.open(directory, verify=False)
    manifest = collection.manifest
    faiss = manifest.faiss
    asked = {"nprobe": faiss.nprobe, "k_factor": faiss.k_factor}
    rows = {
        "name": manifest.name,
        "kind": manifest.kind.value,
        "captions": str(manifest.captions),
        "images": None if manifest.images is None else str(manifest.images),
        "model": f"{manifest.model.name} ({manifest.model.fingerprint[:12]})",
        "dimension": str(manifest.model.embed_dim),
        "FAISS": ", ".join(
            [faiss.factory, *(f"{key} {value}" for key, value in asked.items() if value)]
        ),
        "size": f"{sum(file.bytes for file in manifest.files.values()) / 1e6:.1f} MB",
        "fingerprint": manifest.fingerprint,
    }
    for key, value in rows.items():
        if value is not None:
            _say(f"{key:<12} {value}")
    shown = np.linspace(0, len(collection) - 1, min(_CAPTIONS_SHOWN, len(collection)))
    for caption in collection.texts(shown.astype(np.int64)):
        _say(f"  {caption}", style="dim")


@index_app.command("verify")
def index_verify(
    directory: DirectoryArgument,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    with_model: Annotated[
        bool,
        typer.Option("--with-model/--without-model", help="Embed some captions anew and compare."),
    ] = True,
    least_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Least recall@16 against exact search.")
    ] = 0.8,
) -> None:
    """Check a collection's files, counts, recall, and that captions fit their vectors."""
    from app.clip.model import load_model
    from app.engine import stamp
    from app.index.collection import Collection
    from app.index.verify import verify

    settings = _settings(model=model, pretrained=pretrained)
    with _failures_in_words():
        encode = None
        if with_model:
            collection = Collection.open(directory, verify=False)
            encoder = load_model(settings.model, settings.pretrained, settings.precision)
            collection.check_model(stamp(encoder))
            encode = encoder.encode_texts
        verified = verify(directory, encode, least_recall)
    _say(f"recall@16    {verified.recall:.3f} on {verified.queries} queries")
    if verified.least_cosine is not None:
        _say(
            f"in step      {verified.captions} captions embedded anew, "
            f"least cosine {verified.least_cosine:.3f}"
        )
    _say(f"{directory} is sound")


def _say(line: str, style: str | None = None) -> None:
    _out.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


class _RateColumn(ProgressColumn):
    """Captions so far, and how many a second."""

    def render(self, task: Task) -> Text:
        """`12,000 captions, 340/s`."""
        captions = int(task.fields["captions"])
        rate = captions / task.elapsed if task.elapsed else 0.0
        return Text(f"{captions:,} captions, {rate:,.0f}/s")


def _building() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=_errors,
    )
