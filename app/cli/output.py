"""How answers are written: as tables to look at, or as JSON or CSV for programs."""

import csv
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.cli import terminal

if TYPE_CHECKING:
    from app.client.results import ImageResult

_BAR_WIDTH = 28
_CAPTIONS_SHOWN = 5

_COLUMNS = (
    "filename",
    "rank",
    "label",
    "probability",
    "image_probability",
    "text_probability",
    "image_weight",
    "text_weight",
    "image_confidence",
    "text_confidence",
)


class Format(StrEnum):
    """What is written."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    JSON = "json"


class Writer(ABC):
    """Takes one result after the other; `close` ends what is written, also after an interrupt."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @abstractmethod
    def write(self, result: "ImageResult") -> None:
        """Write one image's answer."""

    def close(self) -> None:
        """Write what stands at the end."""
        self._file.flush()


class TableWriter(Writer):
    """A table with bars an image, the weights, and the captions that spoke for it."""

    def __init__(self, console: Console) -> None:
        super().__init__(cast("TextIO", console.file))
        self._console = console

    def write(self, result: "ImageResult") -> None:
        """Write one image's answer."""
        self._console.print(_table(result))
        image, text = result.modalities.image, result.modalities.text
        self._console.print(
            f"weights: image {image.weight:.2f} (confidence {image.confidence:.2f}), "
            f"captions {text.weight:.2f} (confidence {text.confidence:.2f})",
            highlight=False,
        )
        for caption in result.captions[:_CAPTIONS_SHOWN]:
            self._console.print(
                f"  {caption.similarity:.3f}  {caption.text}",
                style="dim",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        self._console.print()


def _table(result: "ImageResult") -> Table:
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
    return table


class JsonLinesWriter(Writer):
    """One JSON object a line, each with the shape of a result of the API."""

    def write(self, result: "ImageResult") -> None:
        """Write one image's answer."""
        self._file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        self._file.flush()


class JsonWriter(Writer):
    """One JSON array of results, written as they come."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._begun = False

    def write(self, result: "ImageResult") -> None:
        """Write one image's answer."""
        lines = json.dumps(asdict(result), indent=2, ensure_ascii=False).splitlines()
        indented = "\n".join(f"  {line}" for line in lines)
        self._file.write(f"{',' if self._begun else '['}\n{indented}")
        self._begun = True

    def close(self) -> None:
        """End the array."""
        self._file.write("\n]\n" if self._begun else "[]\n")
        super().close()


class CsvWriter(Writer):
    """A row for each label of each image, best first, under one header."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow(_COLUMNS)

    def write(self, result: "ImageResult") -> None:
        """Write one image's answer."""
        image, text = result.modalities.image, result.modalities.text
        for rank, p in enumerate(result.predictions, 1):
            self._csv.writerow(
                [
                    result.filename,
                    rank,
                    p.label,
                    p.probability,
                    p.image_probability,
                    p.text_probability,
                    image.weight,
                    text.weight,
                    image.confidence,
                    text.confidence,
                ]
            )


@contextmanager
def writing(format_: Format, file: Path | None) -> Iterator[Writer]:
    """A writer to a file, or to stdout.

    Raises:
        OSError: the file cannot be written.
    """
    if file is None:
        writer = _writer(format_, sys.stdout, terminal.out)
        with _ending(writer):
            yield writer
        return
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = _writer(format_, opened, Console(file=opened))
        with _ending(writer):
            yield writer


@contextmanager
def _ending(writer: Writer) -> Iterator[None]:
    """Close the writer, also where a run is cut short; a reader that has left wants no end."""
    try:
        yield
    except BrokenPipeError:
        raise
    except BaseException:
        with suppress(OSError):
            writer.close()
        raise
    writer.close()


def _writer(format_: Format, file: TextIO, console: Console) -> Writer:
    match format_:
        case Format.TABLE:
            return TableWriter(console)
        case Format.JSONL:
            return JsonLinesWriter(file)
        case Format.CSV:
            return CsvWriter(file)
        case Format.JSON:
            return JsonWriter(file)
