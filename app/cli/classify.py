"""`xmore classify`: images in files, folders and patterns, answered here or by a server."""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from app import process
from app.cli import terminal
from app.cli.asked import Answer, Asked, BadImage
from app.cli.completion import architectures, tags
from app.cli.images import find_files, read_labels
from app.cli.output import Format, Writer, writing
from app.cli.terminal import fail, failures_in_words, read_settings, say_aside, say_error
from app.xmore.ensemble import Fusion

_INTERRUPTED = 130
"""What shells expect of a command that Ctrl-C has ended: 128 and the signal's number."""

Source = Callable[[Callable[[str], None]], Generator[Answer]]
"""Answers, one an image in order; its argument is told of warnings."""


def classify(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Image files, folders of them, or patterns such as '*.jpg'."
        ),
    ],
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="A label to choose from; repeat it."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A file with a label a line; - for stdin."),
    ] = None,
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
    crops: Annotated[
        bool,
        typer.Option(
            "--crops", help="Let the corners of each image vote too; five times the work."
        ),
    ] = False,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="How many labels are told; default: all.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="The caption collection: its name, or a directory. [XMORE_INDEX]"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model. [XMORE_MODEL]", autocompletion=architectures)
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="Weights of an architecture. [XMORE_PRETRAINED]", autocompletion=tags),
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this server, and load nothing here.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="XMORE_API_KEY", help="The server's key.", show_default=False),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="What is written.")] = (
        Format.TABLE
    ),
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write to this file, not to stdout.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")
    ] = False,
) -> None:
    """Classify images in this process, or ask a running server.

    Images that cannot be used are named on stderr; the exit code is then 1.
    """
    if as_json and format_ not in (Format.TABLE, Format.JSON):
        raise typer.BadParameter(f"--json and --format {format_} exclude each other.")
    if server and (model or pretrained):
        raise typer.BadParameter("--server answers with its own model; leave --model out.")
    asked = Asked(
        labels=read_labels(label or [], labels),
        templates=template,
        captions=captions,
        fusion=fusion,
        crops=crops,
        top_k=top_k,
        index=index,
    )
    paths = find_files(images)
    if server:
        source = _server(server, api_key, asked, paths)
    else:
        source = _here(asked, paths, model, pretrained)
    run = _Run(len(paths), strict)
    format_ = Format.JSON if as_json else format_
    to_terminal = out is None and terminal.out.is_terminal
    with (
        failures_in_words(),
        writing(format_, out) as writer,
        _progress(len(paths), format_, to_terminal=to_terminal) as progress,
    ):
        run.through(source, writer, progress)
    run.tell()


def _here(asked: Asked, paths: list[str], model: str | None, pretrained: str | None) -> Source:
    process.import_open_clip()
    from app.api.parsing import check_labels, check_templates
    from app.api.problems import Problem
    from app.cli import here
    from app.index.catalog import UnknownCollectionError

    settings = read_settings(model=model, pretrained=pretrained)
    question = here.question_of(asked)
    try:
        check_labels(list(question.labels), "--label", settings)
        check_templates(list(question.templates), "--template", settings)
    except Problem as problem:
        raise typer.BadParameter(problem.detail) from None
    settings, question = here.with_index(settings, question)
    with failures_in_words():
        try:
            engine = here.load_engine(settings, question)
        except UnknownCollectionError as error:
            raise typer.BadParameter(str(error), param_hint="--index") from None
    return lambda warn: here.answers(engine, question, paths, warn)


def _server(url: str, api_key: str | None, asked: Asked, paths: list[str]) -> Source:
    from app.cli import there
    from app.client import InvalidRequestError, XmoreError

    def answers(warn: Callable[[str], None]) -> Generator[Answer]:
        try:
            yield from there.answers(url, api_key, asked, paths, warn)
        except InvalidRequestError as error:
            fail(error.detail, 2)
        except XmoreError as error:
            fail(str(error))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--server") from None

    return answers


class _Run:
    """Takes the answers in, and counts."""

    def __init__(self, images: int, strict: bool) -> None:
        self._images = images
        self._strict = strict
        self._done = 0
        self._bad = 0

    def through(self, source: Source, writer: Writer, progress: Progress) -> None:
        """Write every answer.

        Raises:
            Exit: interrupted, or an image is bad and that ends a strict run.
        """
        task = progress.add_task("classify", total=self._images)
        with closing(source(lambda words: say_aside(f"warning: {words}"))) as answers:
            try:
                for answer in answers:
                    self._take(answer, writer)
                    progress.advance(task)
            except KeyboardInterrupt:
                say_aside(f"interrupted: {self._done} of {self._images} images are answered")
                raise typer.Exit(_INTERRUPTED) from None

    def _take(self, answer: Answer, writer: Writer) -> None:
        if not isinstance(answer, BadImage):
            writer.write(answer)
            self._done += 1
            return
        self._bad += 1
        say_error(f"{answer.filename}: {answer.reason}")
        if self._strict:
            raise typer.Exit(1)

    def tell(self) -> None:
        """Say how many images were bad, if any, and end with exit code 1."""
        if not self._bad:
            return
        if self._images > 1:
            say_aside(f"{self._bad} of {self._images} images could not be used")
        raise typer.Exit(1)


class _RateColumn(ProgressColumn):
    """How many images a second."""

    def render(self, task: Task) -> Text:
        """`12.3/s`."""
        return Text(f"{task.completed / task.elapsed:,.1f}/s" if task.elapsed else "")


def _progress(images: int, format_: Format, *, to_terminal: bool) -> Progress:
    """A bar on stderr, where that is a terminal and there is something to wait for."""
    # On the same terminal, tables go above the bar; lines for programs are not to be wrapped.
    in_the_way = to_terminal and format_ is not Format.TABLE
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=terminal.errors,
        transient=True,
        redirect_stdout=to_terminal,
        disable=images == 1 or in_the_way or not terminal.errors.is_terminal,
    )
