"""Which format a path is of, told by what it is."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.index.sources.coco import read_coco
from app.index.sources.files import fingerprint, format_suffix
from app.index.sources.folder import (
    SIDECAR,
    find_images,
    has_sidecars,
    image_reader,
    read_sidecars,
)
from app.index.sources.record import Columns, Item, Read, Record, Source, SourceError
from app.index.sources.shards import read_shard
from app.index.sources.tables import TABLE_SUFFIXES, image_column, read_lines, read_table

_USUAL = Columns()
_TAR, _TEXT, _JSON = ".tar", ".txt", ".json"
_FORMATS = f"{_TEXT}, {', '.join(sorted(TABLE_SUFFIXES))}, {_JSON} (COCO captions), {_TAR}"


def detect(
    paths: Sequence[Path], columns: Columns = _USUAL, images: Path | None = None
) -> list[Source]:
    """The sources at the given paths, in their order; files of a folder sorted by name.

    Args:
        paths: files and folders.
        columns: which columns hold caption and image.
        images: the folder in which tables' images are; default: the table's own.

    Raises:
        SourceError: a path is of no known format.
    """
    asked = f"{columns} {images}"
    return [
        replace(source, fingerprint=f"{source.fingerprint} {asked}")
        for path in paths
        for source in _detect(path, columns, images)
    ]


def captions_in_memory(captions: Iterable[str]) -> Source:
    """A source of captions that are at hand."""
    kept = list(captions)

    def read(_: bool) -> Iterator[Item]:
        for number, caption in enumerate(kept, 1):
            yield Record((caption,), f"caption {number}", position=number / len(kept))

    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return Source("captions", sum(map(len, kept)), digest, has_images=False, read=read)


def _detect(path: Path, columns: Columns, images: Path | None) -> list[Source]:
    if path.is_dir():
        return _folder(path, columns, images)
    if not path.exists():
        raise SourceError("there is no such file or folder.", path)
    return [_file(path, columns, images)]


def _file(path: Path, columns: Columns, images: Path | None) -> Source:
    suffix = format_suffix(path)
    if suffix == _TAR:
        return _source(path, True, lambda wanted: read_shard(path, columns, wanted))
    if suffix == _TEXT:
        return _source(path, False, lambda _: read_lines(path))
    if suffix == _JSON:
        read_image = image_reader(images or path.parent)
        return _source(path, True, lambda wanted: read_coco(path, wanted, read_image))
    if suffix in TABLE_SUFFIXES:
        return _table(path, columns, images or path.parent)
    raise SourceError(f"of no known format; known are {_FORMATS}, and folders of them.", path)


def _table(path: Path, columns: Columns, images: Path) -> Source:
    read_image = image_reader(images)
    return _source(
        path,
        image_column(path, columns) is not None,
        lambda wanted: read_table(path, columns, wanted, read_image),
    )


def _folder(folder: Path, columns: Columns, images: Path | None) -> list[Source]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    # img2dataset puts a table of its own beside every shard.
    shards = [path for path in files if format_suffix(path) == _TAR]
    if shards:
        return [_file(path, columns, images) for path in shards]
    pictures = find_images(folder)
    stems = {picture.with_suffix("") for picture in pictures}
    readable = [path for path in files if _is_readable(path) and path.with_suffix("") not in stems]
    if not pictures:
        if not readable:
            raise SourceError(f"a folder without images and without {_FORMATS}.", folder)
        return [_file(path, columns, images) for path in readable]
    return [_image_folder(folder, pictures, readable, columns)]


def _is_readable(path: Path) -> bool:
    return format_suffix(path) in TABLE_SUFFIXES | {_TEXT, _JSON}


def _image_folder(
    folder: Path, pictures: list[Path], tables: list[Path], columns: Columns
) -> Source:
    if has_sidecars(pictures):
        texts = [path.with_suffix(SIDECAR) for path in pictures]
        return Source(
            folder.name,
            sum(path.stat().st_size for path in pictures),
            fingerprint(*pictures, *(path for path in texts if path.is_file())),
            has_images=True,
            read=partial(read_sidecars, folder, pictures),
            path=folder,
        )
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise SourceError(
            f"a folder of images needs one caption table ({found} found) or a {SIDECAR} beside "
            "each image. Give the table itself as the source, and the folder with --images.",
            folder,
        )
    table = tables[0]
    if format_suffix(table) == _JSON:
        return _file(table, columns, folder)
    return _table(table, columns, folder)


def _source(path: Path, has_images: bool, read: Read) -> Source:
    return Source(path.name, path.stat().st_size, fingerprint(path), has_images, read, path)
