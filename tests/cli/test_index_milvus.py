"""`xmore index` on collections in Milvus's embedded engine, each in a file of its own."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.running import LABELS, answered, refused


@pytest.fixture
def made() -> Path:
    Path("captions.txt").write_text("a cat\nein Hündchen\na car\n", encoding="utf-8")
    answered("index", "build", "captions.txt", "--out", "made")
    return Path("made")


def test_a_copy_is_shown_checked_and_served(
    made: Path, monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    place = f"milvus:{Path.cwd()}/engine.db/pets"
    assert answered("index", "copy", made, place) == f"{place}: 3 captions, Milvus FLAT\n"
    lines = answered("index", "info", place).splitlines()
    rows = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines}
    assert (rows["name"], rows["kind"], rows["captions"]) == ("made", "captions", "3")
    assert rows["Milvus"] == "FLAT"
    assert "  ein Hündchen" in lines
    checked = answered("index", "verify", place)
    assert "3 captions embedded anew, least cosine 1.000" in checked
    assert "recall" not in checked
    assert checked.endswith(f"{place} is sound\n")
    (by_option,) = json.loads(answered("classify", photo, *LABELS, "--json", "--index", place))
    monkeypatch.setenv("XMORE_INDEX", place)
    Path("photos/cat").mkdir(parents=True)
    Path("photos/dog").mkdir()
    (result,) = json.loads(answered("classify", photo, *LABELS, "--json"))
    assert result["captions"] == by_option["captions"]
    assert {caption["text"] for caption in result["captions"]} == {"a cat", "ein Hündchen", "a car"}
    for name in ("cat", "dog"):
        shutil.copy(photo, Path("photos", name))
    assert "lies in Milvus" in refused(1, "evaluate", "photos", "--out", "evaluated")


def test_a_build_may_load_what_it_made() -> None:
    Path("captions.txt").write_text("a cat\na dog\n")
    place = f"milvus:{Path.cwd()}/engine.db/pets"
    said = answered("index", "build", "captions.txt", "--out", "made", "--to", place)
    assert said.splitlines() == [
        "made: 2 captions, FAISS SQfp16",
        f"{place}: 2 captions, Milvus FLAT",
    ]


@pytest.mark.parametrize(
    ("code", "arguments", "why"),
    [
        (2, ("index", "copy", "made", "elsewhere"), "is no Milvus URL"),
        (2, ("index", "copy", "made", "milvus:elsewhere"), "not a collection in Milvus"),
        (2, ("index", "info", "milvus://me:pw@there/x"), "set XMORE_MILVUS_TOKEN"),
        (1, ("index", "copy", "nowhere", "milvus:engine.db/x"), "not a caption collection"),
        (1, ("index", "info", "milvus:no/engine.db/x"), "its folder is missing"),
        (1, ("index", "info", "milvus:engine.db/x"), "there is no such collection"),
    ],
)
def test_what_cannot_be_done_says_why(code: int, arguments: tuple[str, ...], why: str) -> None:
    assert why in refused(code, *arguments)


def test_the_extra_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tiny_index_dir: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    said = refused(1, "index", "copy", tiny_index_dir, "milvus://127.0.0.1:1/x")
    assert "pip install 'xmore[milvus]'" in said
