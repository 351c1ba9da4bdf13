"""`xmore index`: build caption collections and look at them."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from app.cli import terminal
from app.cli.completion import architectures, tags
from app.cli.terminal import failures_in_words, read_settings, say, say_aside
from app.index.manifest import REPORT, CollectionError, Kind, Manifest
from app.index.milvus.manifest import MilvusIndexType, MilvusManifest
from app.index.place import MilvusAddress, Place, parse_place
from app.settings import Settings

if TYPE_CHECKING:
    from app.index.workers import Workers

index_app = typer.Typer(help="Caption collections: build one, look at one.", no_args_is_help=True)

_CAPTIONS_SHOWN = 5

ModelOption = Annotated[
    str | None,
    typer.Option(help="The model of the collection. [XMORE_MODEL]", autocompletion=architectures),
]
PretrainedOption = Annotated[
    str | None,
    typer.Option(help="Weights of an architecture. [XMORE_PRETRAINED]", autocompletion=tags),
]


class BuildEngine(StrEnum):
    """Who embeds the captions of a build."""

    PROCESS = "process"
    RAY = "ray"


DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A caption collection on disk.")
]
PlaceArgument = Annotated[
    str, typer.Argument(metavar="DIR|URL", help="A caption collection, on disk or in Milvus.")
]
_URL_FORMS = "milvus://HOST:PORT/NAME or milvus:PATH/FILE.db/NAME"
IndexTypeOption = Annotated[
    MilvusIndexType | None,
    typer.Option(
        "--milvus-index",
        help="Milvus's index type; default: FLAT (exact) on the embedded engine and below 30,000 "
        "vectors, else HNSW.",
    ),
]


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
    engine: Annotated[
        BuildEngine, typer.Option(help="Who embeds: this process, or the workers of Ray.")
    ] = BuildEngine.PROCESS,
    ray_address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a Ray cluster, or auto; default: this machine alone."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray's workers; default: as many as have room.")
    ] = None,
    worker_cpus: Annotated[float, typer.Option(min=0, help="Cores of one of Ray's workers.")] = 1.0,
    worker_gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of one of Ray's workers; 0.5: two share one.")
    ] = 0.0,
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Load it into Milvus then, as copy does: {_URL_FORMS}."),
    ] = None,
    milvus_index: IndexTypeOption = None,
) -> None:
    """Build a caption collection for the model that will serve it; go on after a kill."""
    address = None if to is None else _address(to)
    from app.index.build import Options, build_with
    from app.index.making import Step
    from app.index.sources.detect import detect
    from app.index.sources.record import Columns

    settings = read_settings(model=model, pretrained=pretrained)
    if ray_address is not None and engine is not BuildEngine.RAY:
        raise typer.BadParameter("is for --engine ray", param_hint="--ray-address")
    size = (workers, worker_cpus, worker_gpus)
    with failures_in_words(), _building() as progress:
        # Workers may stand in another folder.
        absolute = [source.absolute() for source in sources]
        columns = Columns(text_column, image_column)
        found = detect(absolute, columns, images and images.absolute())
        task = progress.add_task("build", total=1.0, captions=0)
        embedded = 0

        def step(done: Step) -> None:
            nonlocal embedded
            embedded += done.captions
            progress.update(task, completed=done.share, captions=embedded)

        with _workers(settings, engine, ray_address, size) as embedding:
            built = build_with(
                embedding,
                found,
                out.absolute(),
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
    say(
        f"{out}: {manifest.captions} captions{_of_images(manifest)}, FAISS {manifest.faiss.factory}"
    )
    if report.faults:
        say_aside(
            f"{report.faults} rows or images could not be used; {out / REPORT} says which and why."
        )
    if address is not None:
        _load(out, address, settings, milvus_index, restart)


@index_app.command("copy")
def index_copy(
    directory: DirectoryArgument,
    to: Annotated[str, typer.Argument(metavar="URL", help=f"Where to in Milvus: {_URL_FORMS}.")],
    milvus_index: IndexTypeOption = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what xmore loaded there before.")
    ] = False,
) -> None:
    """Load a collection into Milvus; go on where a killed copy stopped."""
    _load(directory, _address(to), read_settings(), milvus_index, restart)


def _load(
    directory: Path,
    address: MilvusAddress,
    settings: Settings,
    index_type: MilvusIndexType | None,
    restart: bool,
) -> None:
    from app.index.collection import Collection
    from app.index.milvus.load import LoadOptions, load_collection

    with failures_in_words(), _building() as progress:
        source = Collection.open(directory, settings.verify_index)
        entries = source.manifest.entries
        task = progress.add_task("load", total=entries, captions=0)
        loaded = load_collection(
            source,
            address,
            settings.milvus,
            LoadOptions(index_type, restart),
            progress=lambda rows: progress.update(task, completed=rows, captions=rows),
            say=lambda words: progress.console.print(Text(words), highlight=False),
        )
    say(f"{address}: {loaded.captions} captions{_of_images(loaded)}, Milvus {loaded.index.type}")


def _of_images(manifest: Manifest | MilvusManifest) -> str:
    return "" if manifest.images is None else f" of {manifest.images} images"


def _place(text: str) -> Place:
    try:
        return parse_place(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _address(text: str) -> MilvusAddress:
    place = _place(text)
    if isinstance(place, Path):
        raise typer.BadParameter(f"'{text}' is no Milvus URL; it looks like {_URL_FORMS}")
    return place


@contextmanager
def _workers(
    settings: Settings,
    engine: BuildEngine,
    address: str | None,
    size: tuple[int | None, float, float],
) -> Iterator["Workers"]:
    """Those who embed; `size` is the number of Ray's workers, and the cores and GPUs of one."""
    from app.embedder import load_embedder

    if engine is BuildEngine.PROCESS:
        from app.index.workers import InProcess

        yield InProcess(load_embedder(settings))
        return
    try:
        from app.index.on_ray import Crew, RayWorkers, connected
    except ImportError:
        raise CollectionError(
            "--engine ray needs Ray, which nothing else does: `pip install 'xmore[ray]'`."
        ) from None
    embedder = partial(load_embedder, settings)
    with connected(address), RayWorkers(embedder, Crew(*size)) as workers:
        yield workers


@index_app.command("info")
def index_info(place: PlaceArgument) -> None:
    """Show what a collection is, which model it belongs to, and some of its captions."""
    where = _place(place)
    rows, captions = _on_disk(where) if isinstance(where, Path) else _in_milvus(where)
    for key, value in rows.items():
        if value is not None:
            say(f"{key:<12} {value}")
    for caption in captions:
        say(f"  {caption}", style="dim")


def _said_by_all(manifest: Manifest | MilvusManifest) -> dict[str, str | None]:
    return {
        "name": manifest.name,
        "kind": manifest.kind.value,
        "captions": str(manifest.captions),
        "images": None if manifest.images is None else str(manifest.images),
        "model": f"{manifest.model.name} ({manifest.model.fingerprint[:12]})",
        "dimension": str(manifest.model.embed_dim),
    }


def _in_milvus(address: MilvusAddress) -> tuple[dict[str, str | None], list[str]]:
    from app.index.milvus.collection import MilvusCollection

    with failures_in_words():
        collection = MilvusCollection.open(address, read_settings().milvus)
        texts = collection.some(_CAPTIONS_SHOWN).texts
    manifest = collection.manifest
    build = (f"{key} {value}" for key, value in manifest.index.build.items())
    said = _said_by_all(manifest) | {
        "Milvus": ", ".join([manifest.index.type, *build]),
        "fingerprint": manifest.fingerprint,
    }
    return said, texts[:_CAPTIONS_SHOWN]


def _on_disk(directory: Path) -> tuple[dict[str, str | None], list[str]]:
    import numpy as np

    from app.index.collection import Collection

    with failures_in_words():
        collection = Collection.open(directory, verify=False)
    manifest = collection.manifest
    faiss = manifest.faiss
    asked = {"nprobe": faiss.nprobe, "k_factor": faiss.k_factor}
    said = _said_by_all(manifest) | {
        "FAISS": ", ".join(
            [faiss.factory, *(f"{key} {value}" for key, value in asked.items() if value)]
        ),
        "size": f"{sum(file.bytes for file in manifest.files.values()) / 1e6:.1f} MB",
        "fingerprint": manifest.fingerprint,
    }
    shown = np.linspace(0, len(collection) - 1, min(_CAPTIONS_SHOWN, len(collection)))
    return said, collection.texts(shown.astype(np.int64))


@index_app.command("verify")
def index_verify(
    place: PlaceArgument,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    with_model: Annotated[
        bool,
        typer.Option("--with-model/--without-model", help="Embed some captions anew and compare."),
    ] = True,
    least_recall: Annotated[
        float,
        typer.Option(min=0, max=1, help="Least recall@16 against exact search; on disk only."),
    ] = 0.8,
) -> None:
    """Check a collection's files or rows, counts, recall, and that captions fit their vectors."""
    from app.clip.model import load_chosen_model
    from app.engine import stamp
    from app.index.opening import open_collection
    from app.index.verify import verify, verify_in_milvus

    where = _place(place)
    settings = read_settings(model=model, pretrained=pretrained)
    with failures_in_words():
        encode = None
        if with_model:
            collection = open_collection(where, verify=False, milvus=settings.milvus)
            encoder = load_chosen_model(settings)
            collection.check_model(stamp(encoder))
            encode = encoder.encode_texts
        if isinstance(where, Path):
            verified = verify(where, encode, least_recall)
        else:
            verified = verify_in_milvus(where, settings.milvus, encode)
    if verified.recall is not None:
        say(f"recall@16    {verified.recall:.3f} on {verified.queries} queries")
    if verified.least_cosine is not None:
        say(
            f"in step      {verified.captions} captions embedded anew, "
            f"least cosine {verified.least_cosine:.3f}"
        )
    say(f"{where} is sound")


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
        console=terminal.errors,
    )
