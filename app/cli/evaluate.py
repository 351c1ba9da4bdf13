"""`xmore evaluate`."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from app.cli import terminal
from app.settings import Settings

_USUAL_KS = "2,4,8,16,32,64"
_DETAIL_K = 16
_MOST = 64
_UNBOUNDED = 10_000
_EXTRA = "xmore evaluate needs more than serving does: pip install 'xmore[evaluate]'"


def _numbers(text: str) -> list[int]:
    """K's, ascending, from `4,16,64`."""
    try:
        ks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no list of whole numbers such as 4,16,64") from None
    if ks[0] < 1 or ks[-1] > _MOST:
        raise typer.BadParameter(f"each is from 1 to {_MOST}")
    return ks


def evaluate(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Image folders (one folder a class), .csv or .tsv of images and labels, .tar "
            "shards, CoOp's split .json, or torchvision:NAME.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The directory for results.json and report.html.")],
    index: Annotated[
        list[Path] | None,
        typer.Option(help="A caption collection; repeat it to compare several. [XMORE_INDEX]"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="[XMORE_MODEL]")] = None,
    pretrained: Annotated[str | None, typer.Option(help="[XMORE_PRETRAINED]")] = None,
    k: Annotated[str, typer.Option(help="Numbers of captions, comma-separated.")] = _USUAL_KS,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompts: single, simple (7) or openai (80), the lists that open_clip carries; "
            "repeat it to compare. Default: single."
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", "-t", help="A prompt of your own with one {}; repeat it."),
    ] = None,
    rerank: Annotated[
        str, typer.Option(help="Re-rank candidates by the image: on, off, or both.")
    ] = "on",
    crops: Annotated[
        bool, typer.Option("--crops", help="Also with four corner crops of each image voting.")
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(help="A file of folder and class name (.tsv, .csv, .json), or imagenet."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder of a manifest's images; default: its own.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Of a manifest.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Of a manifest.")] = None,
    split: Annotated[str, typer.Option(help="Of CoOp's split files.")] = "test",
    root: Annotated[Path, typer.Option(help="torchvision's root folder.")] = Path(),
    cache: Annotated[
        Path | None,
        typer.Option(help="Where embeddings are kept for the next time; default: OUT/cache."),
    ] = None,
) -> None:
    """Measure what retrieval does to accuracy on labelled images; go on after a kill."""
    ks = _numbers(k)
    reranks = _reranks(rerank)
    settings = terminal.read_settings(model=model, pretrained=pretrained)
    with _failures_in_words():
        from app.clip.crops import CROPS
        from app.evaluation import tables
        from app.evaluation.datasets.detect import Reading, open_datasets
        from app.evaluation.prompts import choose
        from app.evaluation.report import write_report
        from app.evaluation.run import Evaluation, Plan, load

        chosen = choose(templates or [], template or [])
        reading = Reading(
            classes, images, image_column, label_column, split, root, settings.max_pixels
        )
        sets = open_datasets(data, reading)
        directories = index or _directories(settings)
        encoder, collections = load(settings, directories)
        kept = cache or out / "cache"
        kept.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        with _progress() as progress:

            def start(what: str, total: int) -> "_Bar":
                return _Bar(progress, what, total)

            plan = Plan(
                ks,
                chosen,
                reranks,
                (1, CROPS) if crops else (1,),
                min(ks, key=lambda k: abs(k - _DETAIL_K)),
            )
            evaluation = Evaluation(encoder, collections, plan, kept, start)
            measured = [evaluation.measure(dataset) for dataset in sets]
        results = evaluation.results(measured)
        (out / "results.json").write_text(results.model_dump_json(indent=1), encoding="utf-8")
        write_report(results, [one.exhibits for one in measured], out / "report.html")
    for table in tables.terminal_tables(results):
        # A table that is wider than the terminal, or than a file seems, is not cut.
        unbounded = terminal.out.options.update(width=_UNBOUNDED)
        needed = Measurement.get(terminal.out, unbounded, table).maximum
        Console(width=max(needed, terminal.out.width)).print(table)
        terminal.out.print()
    for one in results.sets:
        if one.unreadable:
            terminal.say_error(
                f"{one.name}: {len(one.unreadable)} images could not be read, first: "
                f"{one.unreadable[0]}"
            )
    terminal.out.print(Text(f"{out / 'results.json'}, {out / 'report.html'}"), soft_wrap=True)


class _Bar:
    """A progress bar that is told how many are done."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def __call__(self, done: int) -> None:
        self._progress.update(self._task, completed=done)
        if self._progress.tasks[self._task].finished:
            self._progress.update(self._task, visible=False)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=terminal.errors,
    )


def _reranks(asked: str) -> list[bool]:
    found = {"on": [True], "off": [False], "both": [True, False]}.get(asked)
    if found is None:
        raise typer.BadParameter("--rerank is on, off or both")
    return found


def _directories(settings: Settings) -> list[Path]:
    """The collections of the settings, which have to lie on disk."""
    places = [place for _, place in settings.collections]
    for place in places:
        if not isinstance(place, Path):
            terminal.fail(
                f"{place} lies in Milvus; evaluate the directory that it was loaded from: "
                "--index DIR"
            )
    return [place for place in places if isinstance(place, Path)]


@contextmanager
def _failures_in_words() -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and exit code 1."""
    for module in ("jinja2", "matplotlib", "scipy"):
        if find_spec(module) is None:
            terminal.fail(_EXTRA)
    from app.evaluation.datasets.labelled import DatasetError

    with terminal.failures_in_words():
        try:
            yield
        except DatasetError as error:
            terminal.fail(str(error))
