"""`xmore models`: what can be served by name, what is on disk, and how to get the rest."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from app.cli import terminal
from app.cli.completion import listed, models
from app.cli.terminal import failures_in_words, say, say_aside
from app.clip.zoo import Published, Zoo, read_zoo
from app.settings import HUB, LOCAL_DIR, ROOT

_LIST = "list"
_CARRIED = ROOT / "models" / "mini"


class _ListByDefault(TyperGroup):
    """`xmore models vit-b` lists, as `xmore models list vit-b` does."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override] # typer.Context is what comes
        """Put the command in where none is named."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [_LIST, *args]
        return super().parse_args(ctx, args)


models_app = typer.Typer(
    cls=_ListByDefault,
    help="Models by name: list them, get one.",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A model that can be named.

    Attributes:
        name: for `xmore models get`, or for XMORE_MODEL.
        parameters: of both towers; None where that is not known.
        image_size: side of the image, in pixels.
        imagenet_top1: zero-shot accuracy as published, in [0, 1].
        needs_transformers: whether its tokenizer comes from that package.
        on_disk: where its weights are, or None.
    """

    name: str
    parameters: int | None
    image_size: int | None
    imagenet_top1: float | None
    needs_transformers: bool | None
    on_disk: str | None


@models_app.command(_LIST)
def list_models(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATTERN...", help="Only names that hold all of these.", autocompletion=listed
        ),
    ] = None,
    only_on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Only what needs no download.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """List models: size, published zero-shot accuracy on ImageNet-1k, and what is on disk."""
    zoo = read_zoo()
    words = [pattern.lower() for pattern in patterns or ()]
    rows = [
        row
        for row in _rows(zoo)
        if all(word in row.name.lower() for word in words) and (row.on_disk or not only_on_disk)
    ]
    if as_json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    if not rows:
        say_aside(f"no model of this name; any model of the hub loads as {HUB}ORG/NAME")
        raise typer.Exit(1)
    terminal.out.print(_table(rows))
    say_aside(
        f"{len(rows)} models by name, of open_clip {zoo.open_clip}. Any other of the hub, in "
        f"open_clip's format, is {HUB}ORG/NAME. Get one: xmore models get NAME"
    )


def _rows(zoo: Zoo) -> Iterator[Row]:
    if _CARRIED.is_dir():
        yield Row(f"{LOCAL_DIR}{_CARRIED}", None, None, None, needs_transformers=False,
                  on_disk=str(_CARRIED))  # fmt: skip
    yield from _cached()
    for weights in zoo.weights:
        yield _row(weights, zoo)


def _row(weights: Published, zoo: Zoo) -> Row:
    from app.clip.weights import weights_file

    architecture = zoo.architectures[weights.architecture]
    found = weights_file(weights.hub).on_disk()
    return Row(
        weights.name,
        architecture.parameters,
        architecture.image_size,
        weights.imagenet_top1,
        architecture.needs_transformers,
        None if found is None else str(found),
    )


def _cached() -> Iterator[Row]:
    """Models in the hub's cache that were got by the name of their repository."""
    from huggingface_hub import constants

    from app.clip.weights import CONFIG, HubFile, weights_file

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        config = HubFile(repository, (CONFIG,)).on_disk()
        weights = weights_file(f"{repository}/").on_disk()
        if config and weights:
            yield Row(f"{HUB}{repository}", None, None, None, None, str(weights))


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("parameters", justify="right")
    table.add_column("image", justify="right")
    table.add_column("top-1", justify="right")
    table.add_column("on disk")
    table.add_column("needs")
    for row in rows:
        table.add_row(
            Text(row.name),
            "" if row.parameters is None else f"{row.parameters / 1e6:,.0f} M",
            "" if row.image_size is None else f"{row.image_size} px",
            "" if row.imagenet_top1 is None else f"{row.imagenet_top1:.1%}",
            Text("yes", style="green") if row.on_disk else "",
            "transformers" if row.needs_transformers else "",
        )
    return table


@models_app.command("get")
def get(
    name: Annotated[
        str,
        typer.Argument(
            help="As listed, such as ViT-B-16/openai; or hf-hub:ORG/NAME.", autocompletion=models
        ),
    ],
) -> None:
    """Download a model now, for a machine that is offline later."""
    model, pretrained = _parse(name)
    from app.clip.weights import fetch, is_on_disk

    with failures_in_words():
        there = is_on_disk(model, pretrained)
        fetch(model, pretrained)
    say_aside("All of it was on disk already." if there else "All of it is on disk now.")
    say(f"export XMORE_MODEL={model}" + (f" XMORE_PRETRAINED={pretrained}" if pretrained else ""))


def _parse(name: str) -> tuple[str, str | None]:
    """What XMORE_MODEL and XMORE_PRETRAINED would be.

    Raises:
        BadParameter: no weights have this name.
    """
    if name.startswith(HUB):
        return name, None
    if name.startswith(LOCAL_DIR):
        raise typer.BadParameter("A directory is on this machine already.")
    known = {weights.name.lower(): weights for weights in read_zoo().weights}
    found = known.get(name.lower())
    if found is None:
        raise typer.BadParameter(_unknown(name, [weights.name for weights in known.values()]))
    return found.architecture, found.pretrained


def _unknown(name: str, names: Sequence[str]) -> str:
    of_architecture = [known for known in names if known.startswith(f"{name}/")]
    close = of_architecture or get_close_matches(name, names)
    advice = f"Perhaps {', '.join(close)}?" if close else "`xmore models` lists them."
    return f"There is no model '{name}'. {advice} Any model of the hub is {HUB}ORG/NAME."
