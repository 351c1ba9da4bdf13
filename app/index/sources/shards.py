"""img2dataset and WebDataset shards: `.tar` files in which one key is an image and its texts."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from app.index.sources.files import DAMAGE, open_file
from app.index.sources.record import (
    IMAGE_SUFFIXES,
    Columns,
    Fault,
    Item,
    Record,
    captions_of,
)
from app.index.sources.tables import TEXT_NAMES


def read_shard(path: Path, columns: Columns, images: bool) -> Iterator[Item]:
    """Members that follow each other and share a key (the name up to its first dot).

    Captions are the lines of `KEY.txt`, or else a value of `KEY.json`.
    """
    try:
        with open_file(path) as file, tarfile.open(fileobj=file.data, mode="r|") as tar:
            for key, members in groupby(_files(tar), key=_key):
                item = _read_key(tar, f"{path.name}/{key}", members, columns, images)
                if item is not None:
                    yield _at(item, file.position)
    except (*DAMAGE, tarfile.TarError) as error:
        yield Fault(f"the rest of the shard cannot be read ({error})", path.name, 1.0)


def _files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        # tarfile keeps every header that it saw; a shard may have very many.
        tar.members = []  # type: ignore[attr-defined]  # left out of typeshed
        if member.isfile():
            yield member


def _key(member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def _suffix(member: tarfile.TarInfo) -> str:
    return "." + PurePosixPath(member.name).name.partition(".")[2].lower()


def _read_key(
    tar: tarfile.TarFile,
    origin: str,
    members: Iterable[tarfile.TarInfo],
    columns: Columns,
    images: bool,
) -> Item | None:
    image: bytes | None = None
    texts: dict[str, bytes] = {}
    pictured = False
    for member in members:
        suffix = _suffix(member)
        if suffix in IMAGE_SUFFIXES:
            pictured = True
            image = _data(tar, member) if images else None
        elif suffix in (".txt", ".json"):
            texts[suffix] = _data(tar, member)
    if not texts:
        # Labels and the like of a key that has neither.
        return Fault("no .txt and no .json beside it", origin) if pictured else None
    if images and image is None:
        return Fault("no image beside it", origin)
    try:
        return Record(_captions(texts, columns), origin, image)
    except (ValueError, RecursionError) as error:
        return Fault(str(error), origin)


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _captions(texts: dict[str, bytes], columns: Columns) -> tuple[str, ...]:
    if columns.text is None and ".txt" in texts:
        return tuple(texts[".txt"].decode("utf-8-sig").splitlines())
    if ".json" not in texts:
        raise ValueError(f"no .json in which to look for '{columns.text}'")
    values = json.loads(texts[".json"])
    names = TEXT_NAMES if columns.text is None else (columns.text,)
    name = next((name for name in names if isinstance(values, dict) and name in values), None)
    if name is None:
        raise ValueError("its .json has no caption; name its key with --text-column")
    return captions_of(values[name])


def _at(item: Item, position: float) -> Item:
    if isinstance(item, Fault):
        return Fault(item.reason, item.origin, position)
    return Record(item.captions, item.origin, item.image, position)
