"""Text, CSV, TSV, JSON lines and Parquet: rows with a caption, and perhaps an image."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from app.index.sources.files import DAMAGE, format_suffix, open_file
from app.index.sources.record import (
    IMAGE_SUFFIXES,
    Columns,
    Fault,
    Item,
    Record,
    SourceError,
    captions_of,
)

TEXT_NAMES = ("caption", "captions", "text", "txt", "title", "sentence", "sentences", "comment")
IMAGE_NAMES = ("image", "image_path", "image_name", "file_name", "filename", "filepath", "path")
"""Column names that are taken where none is given, the first that is there."""

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})

_PARQUET_ROWS = 1024
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}

ReadImage = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the values of its two columns, and where it is."""

    text: Any
    image: Any
    origin: str
    position: float


def read_lines(path: Path) -> Iterator[Item]:
    """A text file, one caption a line."""
    try:
        with open_file(path) as file:
            for number, line in enumerate(file.lines(), 1):
                yield _record(Row(line, None, f"{path.name}:{number}", file.position), None)
    except DAMAGE as error:
        yield _unreadable(path, error)


def read_table(path: Path, columns: Columns, images: bool, read_image: ReadImage) -> Iterator[Item]:
    """A table. Rows that follow each other and name the same image are one record.

    Args:
        path: the table.
        columns: which columns hold caption and image.
        images: whether to read the images.
        read_image: a name in the image column to the bytes of the file.

    Raises:
        SourceError: the columns are not there.
    """
    rows = _rows(path, columns, images)
    if not images:
        for row in rows:
            yield row if isinstance(row, Fault) else _record(row, None)
        return
    for image, group in groupby(rows, key=_image_name):
        yield from _with_image(list(group), image, read_image)


def image_column(path: Path, columns: Columns) -> str | None:
    """The column of a table that holds images, if it has one.

    Raises:
        SourceError: the table cannot be read, or the column that was asked for is not there.
    """
    if columns.image is not None:
        return columns.image
    try:
        names = _names(path)
    except DAMAGE as error:
        raise SourceError(f"cannot be read ({error})", path) from error
    if _is_token_file(names):
        return "1"
    return next((name for name in IMAGE_NAMES if name in names), None)


def _image_name(row: Row | Fault) -> object:
    """What rows are grouped by: the image's name; a row without one is a group by itself."""
    if isinstance(row, Row) and isinstance(row.image, str):
        return row.image
    return object()


def _with_image(rows: Sequence[Row | Fault], name: object, read_image: ReadImage) -> Iterator[Item]:
    first = rows[0]
    if isinstance(first, Fault):
        yield first
        return
    try:
        image = read_image(name) if isinstance(name, str) else _embedded(first.image, read_image)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        yield Fault(f"its image cannot be read ({reason})", first.origin, first.position)
        return
    captions: list[str] = []
    for row in rows:
        record = _record(row, image) if isinstance(row, Row) else row
        if isinstance(record, Fault):
            yield record
        else:
            captions.extend(record.captions)
    if captions:
        yield Record(tuple(captions), first.origin, image, rows[-1].position)


def _embedded(value: object, read_image: ReadImage) -> bytes:
    """An image in a cell: its bytes, or Hugging Face's struct of bytes and path."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("bytes"), bytes):
            return bytes(value["bytes"])
        if isinstance(value.get("path"), str):
            return read_image(value["path"])
    raise ValueError("there is none in the row")


def _record(row: Row, image: bytes | None) -> Item:
    try:
        return Record(captions_of(row.text), row.origin, image, row.position)
    except ValueError as error:
        return Fault(str(error), row.origin, row.position)


def _rows(path: Path, columns: Columns, images: bool) -> Iterator[Row | Fault]:
    suffix = format_suffix(path)
    try:
        if suffix == ".parquet":
            yield from _parquet_rows(path, columns, images)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _json_rows(path, columns, images)
        else:
            yield from _csv_rows(path, columns, images)
    except (*DAMAGE, csv.Error) as error:
        yield _unreadable(path, error)


def _unreadable(path: Path, error: Exception) -> Fault:
    return Fault(f"the rest of the file cannot be read ({error})", path.name, 1.0)


def _csv_rows(path: Path, columns: Columns, images: bool) -> Iterator[Row | Fault]:
    with open_file(path) as file:
        lines = file.lines()
        delimiter = _delimiter(path)
        reader = csv.reader(
            (f"{line}\n" for line in lines),
            delimiter=delimiter,
            # In tab-separated tables a quote is a letter like any other.
            quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        )
        header = next(reader, None)
        if header is None:
            return
        text, image, has_header = _places(path, header, columns, images)
        for cells in reader if has_header else chain([header], reader):
            origin = f"{path.name}:{reader.line_num}"
            if len(cells) <= max(text, image or 0):
                if cells:
                    yield Fault(f"{len(cells)} columns only", origin, file.position)
                continue
            name = None if image is None else cells[image].partition("#")[0]
            yield Row(cells[text], name, origin, file.position)


def _delimiter(path: Path) -> str:
    """By the suffix; a `.txt` table is separated by tabs or, as Flickr8k's, by commas."""
    if format_suffix(path) != ".txt":
        return _DELIMITERS[format_suffix(path)]
    with open_file(path) as file:
        first = next(file.lines(), "")
    return "\t" if "\t" in first else ","


def _places(
    path: Path, header: list[str], columns: Columns, images: bool
) -> tuple[int, int | None, bool]:
    """Places of text and image (from 0), and whether the first row is a header."""
    names = [name.strip().casefold() for name in header]
    if _is_token_file(header) and columns == Columns():
        return 1, 0, False
    has_header = not any((column or "").isdigit() for column in (columns.text, columns.image))
    if len(header) == 1 and columns == Columns() and names[0] not in TEXT_NAMES:
        return 0, None, False
    text = _place(path, "--text-column", columns.text, names, TEXT_NAMES)
    image = None
    if images:
        image = _place(path, "--image-column", columns.image, names, IMAGE_NAMES)
    return text, image, has_header


def _place(
    path: Path, option: str, wanted: str | None, names: list[str], usual: Sequence[str]
) -> int:
    if wanted is not None and wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    candidates = usual if wanted is None else (wanted.casefold(),)
    for name in candidates:
        if name in names:
            return names.index(name)
    raise _no_column(path, option, wanted, names)


def _no_column(path: Path, option: str, wanted: str | None, names: Sequence[str]) -> SourceError:
    asked = "no column of a usual name" if wanted is None else f"no column '{wanted}'"
    shown = ", ".join(repr(name[:40]) for name in names[:20])
    return SourceError(
        f"{asked}; its first row has {shown}. Name the column with {option}, or give its number "
        "(from 1) where the table has no header.",
        path,
    )


def _is_token_file(first_row: Sequence[str]) -> bool:
    """Flickr8k's older form: `photo.jpg#0`, a tab, the caption; no header."""
    two = 2
    if len(first_row) != two:
        return False
    name = first_row[0].partition("#")[0]
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _json_rows(path: Path, columns: Columns, images: bool) -> Iterator[Row | Fault]:
    with open_file(path) as file:
        for number, line in enumerate(file.lines(), 1):
            if not line.strip():
                continue
            origin = f"{path.name}:{number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Fault(f"not JSON ({error})", origin, file.position)
                continue
            if not isinstance(values, dict):
                yield Fault("not a JSON object", origin, file.position)
                continue
            text = _key(values, columns.text, TEXT_NAMES)
            if text is None:
                keys = ", ".join(sorted(values)[:10])
                yield Fault(
                    f"no caption among its keys ({keys}); name one with --text-column",
                    origin,
                    file.position,
                )
                continue
            name = _key(values, columns.image, IMAGE_NAMES) if images else None
            yield Row(values[text], values.get(name) if name else None, origin, file.position)


def _key(values: dict[str, Any], wanted: str | None, usual: Sequence[str]) -> str | None:
    candidates = usual if wanted is None else (wanted,)
    return next((name for name in candidates if name in values), None)


def _parquet_rows(path: Path, columns: Columns, images: bool) -> Iterator[Row | Fault]:
    parquet = import_parquet()
    with parquet.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        lowered = [name.casefold() for name in names]
        text = names[_place(path, "--text-column", columns.text, lowered, TEXT_NAMES)]
        wanted = [text]
        if images:
            image = names[_place(path, "--image-column", columns.image, lowered, IMAGE_NAMES)]
            wanted.append(image)
        total = max(1, file.metadata.num_rows)
        number = 0
        for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
            for values in batch.to_pylist():
                number += 1
                yield Row(
                    values[text],
                    values[image] if images else None,
                    f"{path.name}:{number}",
                    number / total,
                )


def import_parquet() -> Any:
    """The Parquet reader of pyarrow.

    Raises:
        SourceError: it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise SourceError(
            "Parquet files need pyarrow, which serving does not: `pip install 'xmore[build]'`."
        ) from None
    return parquet


def _names(path: Path) -> list[str]:
    """The first row of a table, the keys of its first object, or its columns."""
    suffix = format_suffix(path)
    if suffix == ".parquet":
        with import_parquet().ParquetFile(path) as file:
            return [str(name).casefold() for name in file.schema_arrow.names]
    if suffix in (".jsonl", ".ndjson"):
        with open_file(path) as file:
            first = json.loads(next(file.lines(), "{}"))
        return list(first) if isinstance(first, dict) else []
    delimiter = _delimiter(path)
    with open_file(path) as file:
        header = next(csv.reader(file.lines(), delimiter=delimiter), [])
    return [name.strip().casefold() for name in header]
