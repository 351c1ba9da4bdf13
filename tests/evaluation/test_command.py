"""`xmore evaluate` on a small set: what it measures, keeps, and says."""

import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.clip.model import ClipModel
from app.embedder import ClipEmbedder
from app.evaluation.datasets.detect import Reading, open_datasets
from app.evaluation.results import Results
from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.manifest import Kind
from app.index.sources.detect import detect
from tests.evaluation import method
from tests.evaluation.conftest import CLASSES, PER_CLASS, picture

KS = [2, 5]
IMAGES = len(CLASSES) * PER_CLASS


@pytest.fixture(scope="session")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory, tiny_model: ClipModel) -> Path:
    """Pairs whose captions hold what a page must escape."""
    folder = tmp_path_factory.mktemp("pairs") / "photos"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.png").write_bytes(picture(number))
        (folder / f"{number}.txt").write_text(f"<b>photo</b> {number}\na photo\nA Photo.")
    out = folder.parent / "index"
    options = Options(name="photos & pairs", kind=Kind.PAIRS)
    build_collection([*detect([folder])], out, ClipEmbedder(tiny_model, 10**6), options)
    return out


def run(image_folder: Path, out: Path, *arguments: str | Path) -> Result:
    given = ["evaluate", image_folder, "--out", out, *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in given])


@pytest.fixture(scope="module")
def environment(tiny_model_dir: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("XMORE_")]:
            patch.delenv(name)
        patch.setenv("XMORE_MODEL", f"local-dir:{tiny_model_dir}")
        patch.setenv("XMORE_PRECISION", "fp32")
        patch.setenv("XMORE_THREADS", "1")
        yield patch


@pytest.fixture(scope="module")
def measured(
    image_folder: Path,
    tiny_index_dir: Path,
    pairs_dir: Path,
    environment: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder that a run over two collections left."""
    assert environment
    out = tmp_path_factory.mktemp("out")
    collections: list[str | Path] = ["--index", tiny_index_dir, "--index", pairs_dir]
    result = run(
        image_folder, out, *collections, "--k", "5,2", "--rerank", "both",
        "--templates", "single", "--templates", "simple", "--crops",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (out / "stdout.txt").write_text(result.stdout)
    (out / "stderr.txt").write_text(result.stderr)
    return out


@pytest.fixture(scope="module")
def results(measured: Path) -> Results:
    return Results.model_validate_json((measured / "results.json").read_text(encoding="utf-8"))


def test_every_configuration_is_measured(results: Results) -> None:
    (one,) = results.sets
    assert (one.name, one.images) == ("things", IMAGES)
    assert one.class_images == [PER_CLASS] * len(CLASSES)
    assert [fault.partition(":")[0] for fault in one.unreadable] == ["red car/broken.png"]
    methods, collections, reranks, crops, templates = 6, 2, 2, 2, 2
    assert len(one.scores) == templates * crops * (1 + methods * collections * reranks * len(KS))
    configurations = [score.configuration for score in one.scores]
    assert len(set(configurations)) == len(configurations)
    assert {c.k for c in configurations} == {0, *KS}
    assert results.detail_k == 5
    assert len(one.details) == templates * (1 + 2 * collections)
    assert [mean.configuration for mean in results.means] == configurations


def test_figures_belong_together(results: Results) -> None:
    (one,) = results.sets
    plain = {s.configuration.templates: s for s in one.scores if s.comparison is None}
    assert all(s.configuration.crops == 1 for s in plain.values())
    for score in one.scores:
        assert score.top1.low <= score.top1.value <= score.top1.high
        assert score.top1.value <= score.top5.value
        assert score.top1.value == pytest.approx(np.mean(score.seeds))
        comparison = score.comparison
        if comparison is not None:
            before = plain[score.configuration.templates]
            gained = score.top1.value - before.top1.value
            assert comparison.difference.value == pytest.approx(gained)
            first = (comparison.mended - comparison.spoiled) / one.images
            assert score.seeds[0] - before.top1.value == pytest.approx(first)
    for detail in one.details:
        assert sum(detail.reliability.counts) == one.images
        assert sum(detail.image_confidence) == one.images
        shares = [share for share in detail.class_accuracy if share is not None]
        same = next(s for s in one.scores if s.configuration == detail.configuration)
        assert np.mean(shares) == pytest.approx(same.top1.value)
        assert detail.coverage[-1] == pytest.approx(same.top1.value)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("k", KS)
def test_an_independent_implementation_gives_the_same_accuracies(
    results: Results,
    tiny_model: ClipModel,
    image_folder: Path,
    tiny_index_dir: Path,
    pairs_dir: Path,
    number: int,
    k: int,
) -> None:
    collection = Collection.open([tiny_index_dir, pairs_dir][number])
    (dataset,) = open_datasets([str(image_folder)], Reading())
    (one,) = results.sets
    everything = np.arange(len(collection))
    texts = collection.texts(everything)
    t = collection.embeddings(everything).tolist()
    searched = np.concatenate(list(collection.index.blocks())).tolist()
    per_entry = len(t) // len(searched)
    entries = [
        (vector, list(range(row * per_entry, (row + 1) * per_entry)))
        for row, vector in enumerate(searched)
    ]
    prompts = [[f"a photo of a {name}."] for name in dataset.classes]
    labels = [
        method.label_embedding(tiny_model.encode_texts(of_label).tolist()) for of_label in prompts
    ]
    answers, targets = [], []
    for position in range(dataset.size):
        if dataset.key(position).endswith("broken.png"):
            continue
        example = dataset.load(position)
        pixels = tiny_model.pixels(example.image)
        v = tiny_model.encode_images([pixels])[0].tolist()
        captions = method.retrieved(v, entries, texts, t, k)
        assert len(captions) == min(k, len({method.folded(text) for text in texts}))
        answers.append(method.votes(v, [t[c] for c in captions], labels, tiny_model.logit_scale))
        targets.append(example.label)
    for name in ("image", "text", "mean", "product", "request"):
        fused = method.weighed(answers, [True] * len(answers), name)
        right = [a.fused.index(max(a.fused)) == y for a, y in zip(fused, targets, strict=True)]
        (score,) = [
            s
            for s in one.scores
            if s.configuration.method == name
            and s.configuration.templates == "single"
            and (name == "image" or s.configuration.k == k)
            and (name == "image" or s.configuration.index == collection.manifest.name)
            and s.configuration.rerank
            and s.configuration.crops == 1
        ]
        assert score.top1.value == pytest.approx(np.mean(right)), name


class Page(HTMLParser):
    """What a page refers to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.sources += [given[name] for name in ("src", "href", "xlink:href") if name in given]
        self.ids += [given["id"]] if "id" in given else []

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_report_needs_nothing_else_and_is_escaped(measured: Path, results: Results) -> None:
    text = (measured / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "b" not in page.tags
    assert all(source.startswith(("#", "data:image/jpeg;base64,")) for source in page.sources)
    assert not re.search(r"url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 2 + 2 * 3
    assert all(f"#{number:02d}{number:02d}{number:02d}" not in text for number in range(1, 9))
    for words in ("photos & pairs", "captions only", "<b>photo</b>", "tabby cat"):
        assert words in page.words
    assert results.model.fingerprint[:12] in page.words


def test_the_terminal_shows_a_table_and_what_could_not_be_read(measured: Path) -> None:
    said = (measured / "stdout.txt").read_text()
    for words in (
        "top-1 in %, templates: single",
        "templates: simple",
        "plain CLIP",
        "report.html",
    ):
        assert words in said
    assert "1 images could not be read" in (measured / "stderr.txt").read_text()


def test_a_second_run_computes_no_embedding_again(
    measured: Path,
    image_folder: Path,
    tiny_index_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    results: Results,
    tmp_path: Path,
) -> None:
    asked: list[Any] = []
    encode = ClipModel.encode_images

    def noted(self: ClipModel, pixels: Any) -> Any:
        asked.append(pixels)
        return encode(self, pixels)

    monkeypatch.setattr(ClipModel, "encode_images", noted)
    again = run(
        image_folder, tmp_path, "--index", tiny_index_dir, "--k", "2", "--cache", measured / "cache"
    )
    assert again.exit_code == 0, again.output
    # One image of zeros warms the model up.
    assert len(asked) == 1
    found = json.loads((tmp_path / "results.json").read_text())["sets"][0]["scores"]
    first = {s.configuration: s for s in results.sets[0].scores}
    parsed = Results.model_validate_json((tmp_path / "results.json").read_text()).sets[0].scores
    assert len(found) == 1 + 6
    for score in parsed:
        assert score == first[score.configuration]


def test_faults_are_told_in_one_line(
    image_folder: Path, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    assert environment
    (tmp_path / "broken" / "cat").mkdir(parents=True)
    (tmp_path / "broken" / "cat" / "a.png").write_bytes(b"no image")
    index = ("--index", tmp_path)
    for code, arguments, said in (
        (1, ["--classes", tmp_path / "none.tsv"], "cannot be read"),
        (1, ["--templates", "none"], "known are single, simple, openai"),
        (1, ["-t", "no place"], "needs one {}"),
        (1, index, "not a caption collection"),
        (2, ["--k", "0,4"], "from 1 to 64"),
        (2, ["--k", "many"], "no list of whole numbers"),
        (2, ["--rerank", "maybe"], "on, off or both"),
    ):
        result = run(image_folder, tmp_path / "out", *arguments)
        assert result.exit_code == code, result.output
        assert said in " ".join(result.stderr.replace("│", " ").split())
        assert "Traceback" not in result.stderr
