"""Small collections on disk, to be loaded."""

from pathlib import Path

from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.manifest import Kind, ModelStamp
from app.index.place import MilvusAddress
from app.index.sources.detect import captions_in_memory, detect
from tests.index.embedders import FakeEmbedder

DIM = 32
MODEL = ModelStamp(name="fake", fingerprint="ab" * 32, embed_dim=DIM)
IMAGES = 60


def captions(out: Path, count: int = 200, word: str = "caption") -> Collection:
    texts = captions_in_memory(f"{word} {number} ü" for number in range(count))
    build_collection([texts], out, FakeEmbedder(MODEL), Options(name=out.name))
    return Collection.open(out)


def embedded(file: str, name: str) -> MilvusAddress:
    """A collection in the embedded engine on a file."""
    return MilvusAddress(f"milvus:{file}/{name}", file, name)


def picture(number: int) -> bytes:
    return f"picture {number}".encode()


def pairs(out: Path) -> Collection:
    """Images with one to three captions, one of which every fourth image shares."""
    folder = out.with_name(f"{out.name}-pictures")
    folder.mkdir()
    for number in range(IMAGES):
        (folder / f"{number:03d}.jpg").write_bytes(picture(number))
        own = [f"caption {number} {letter}" for letter in "abc"[: number % 3]]
        (folder / f"{number:03d}.txt").write_text("\n".join([f"shared {number % 4}", *own, ""]))
    options = Options(name=out.name, kind=Kind.PAIRS)
    build_collection(detect([folder]), out, FakeEmbedder(MODEL), options)
    return Collection.open(out)
