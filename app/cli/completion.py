"""Values that a shell completes. Nothing heavy is imported: it runs at every press of Tab."""

from collections.abc import Iterator

import typer

from app.clip.zoo import read_zoo
from app.settings import HUB, LOCAL_DIR


def architectures(incomplete: str) -> Iterator[tuple[str, str]]:
    """What may follow `--model`."""
    for prefix, words in ((LOCAL_DIR, "a directory"), (HUB, "a repository of the hub")):
        if prefix.startswith(incomplete):
            yield prefix, words
    for name, architecture in read_zoo().architectures.items():
        if name.startswith(incomplete):
            yield name, architecture.size


def tags(context: typer.Context, incomplete: str) -> Iterator[str]:
    """What may follow `--pretrained`: the tags of the model named before, or all."""
    model = context.params.get("model")
    known = {
        weights.pretrained
        for weights in read_zoo().weights
        if model in (None, weights.architecture)
    }
    yield from sorted(tag for tag in known if tag.startswith(incomplete))


def models(incomplete: str) -> Iterator[str]:
    """What may follow `xmore models get`."""
    for weights in read_zoo().weights:
        if weights.name.startswith(incomplete):
            yield weights.name


def listed(incomplete: str) -> Iterator[str]:
    """What may follow `xmore models`: its other command, or the name of an architecture."""
    for name in ("get", *read_zoo().architectures):
        if name.startswith(incomplete):
            yield name
