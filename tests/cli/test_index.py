"""`xmore index`: what it prints, and the exit code of what goes wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.engine import Engine
from app.index.collection import Collection
from tests.cli.running import LABELS, answered, refused, run, unstyle
from tests.photos import encode, gradient


def test_an_index_is_built_from_a_text_file_and_described(tiny_engine: Engine) -> None:
    Path("captions.txt").write_text("a cat\n\nA cat.\nein Hündchen\na car\n", encoding="utf-8")
    said = answered("index", "build", "captions.txt", "--out", "made")
    assert said == "made: 3 captions, FAISS SQfp16\n"
    collection = Collection.open(Path("made"))
    collection.check_model(collection.manifest.model)
    assert collection.texts(np.arange(3)) == ["a cat", "ein Hündchen", "a car"]
    assert collection.manifest.model.fingerprint == tiny_engine.model.fingerprint

    lines = answered("index", "info", "made").splitlines()
    rows = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines}
    assert rows["name"] == "made"
    assert rows["kind"] == "captions"
    assert rows["captions"] == "3"
    assert rows["model"] == f"tiny ({tiny_engine.model.fingerprint[:12]})"
    assert rows["dimension"] == "16"
    assert rows["FAISS"] == "SQfp16"
    assert rows["fingerprint"] == collection.manifest.fingerprint


def test_a_built_index_serves_its_captions(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    Path("captions.txt").write_text("one thing\nanother thing\n")
    answered("index", "build", "captions.txt", "--out", "made", "--name", "things")
    assert Collection.open(Path("made")).manifest.name == "things"
    monkeypatch.setenv("XMORE_INDEX", "made")
    (result,) = json.loads(answered("classify", photo, *LABELS, "--json"))
    assert {caption["text"] for caption in result["captions"]} == {"one thing", "another thing"}


def test_the_model_may_be_given_to_a_build(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path
) -> None:
    monkeypatch.setenv("XMORE_MODEL", "local-dir:nowhere")
    Path("captions.txt").write_text("a cat\n")
    model = f"local-dir:{tiny_model_dir}"
    answered("index", "build", "captions.txt", "--out", "made", "--model", model)
    assert len(Collection.open(Path("made"))) == 1


def test_a_build_over_something_else_fails() -> None:
    Path("captions.txt").write_text("a cat\n")
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work")
    said = run("index", "build", "captions.txt", "--out", "thesis")
    assert said.exit_code == 1
    assert "not a caption collection" in said.stderr
    assert [path.name for path in Path("thesis").iterdir()] == ["chapter.txt"]


@pytest.mark.parametrize(("content", "said"), [(b"", "no captions"), (b"\xff\xfe", "not UTF-8")])
def test_a_source_without_captions_fails(content: bytes, said: str) -> None:
    Path("captions.txt").write_bytes(content)
    result = run("index", "build", "captions.txt", "--out", "made")
    assert result.exit_code == 1
    assert said in result.stderr
    assert not Path("made").exists()


def pictures(folder: Path) -> Path:
    folder.mkdir()
    rows = ["image,caption"]
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encode(gradient().rotate(30 * number)))
        rows += [f"{number}.png,turned {number} times", f"{number}.png,picture {number}"]
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "captions.txt").write_text("\n".join([*rows, "broken.png,a broken one"]))
    return folder


def test_pairs_are_built_from_a_folder_and_what_is_broken_is_reported() -> None:
    folder = pictures(Path("pictures"))
    result = run("index", "build", folder, "--out", "made", "--kind", "pairs")
    assert result.exit_code == 0, result.output
    assert "made: 10 captions of 5 images, FAISS SQfp16" in unstyle(result.stdout)
    assert "1 rows or images could not be used" in unstyle(result.stderr)
    report = json.loads(Path("made/build_report.json").read_text())
    assert [sample["origin"] for sample in report["samples"]] == ["captions.txt:12"]
    said = answered("index", "info", "made")
    assert "kind         pairs" in said
    assert "images       5" in said
    assert "  turned 0 times" in said

    refused_ = run("index", "build", folder, "--out", "other", "--kind", "pairs", "--strict")
    assert refused_.exit_code == 1
    assert "captions.txt:12: not an image" in unstyle(refused_.stderr)
    assert not Path("other").exists()


def test_columns_and_the_index_type_may_be_chosen() -> None:
    rows = "".join(f"web\tcaption {number}\n" for number in range(60))
    Path("bare.tsv").write_text(rows)
    chosen = ["--text-column", "2", "--faiss", "IVF2,SQ8"]
    said = answered("index", "build", "bare.tsv", "--out", "made", *chosen)
    assert said.endswith("made: 60 captions, FAISS IVF2,SQ8\n")
    assert "nprobe" in answered("index", "info", "made")
    assert "knows no index type 'XYZ'" in unstyle(
        run(
            "index", "build", "bare.tsv", "--out", "o", "--text-column", "2", "--faiss", "XYZ"
        ).stderr
    )


def test_a_sound_collection_is_verified(tiny_index_dir: Path) -> None:
    said = answered("index", "verify", tiny_index_dir)
    assert "recall@16    1.000" in said
    assert "24 captions embedded anew" in said
    assert "is sound" in said
    assert "embedded anew" not in answered("index", "verify", tiny_index_dir, "--without-model")


def test_a_damaged_collection_fails_verification(tiny_index_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_index_dir, tmp_path / "copy")
    (copy / "captions.txt").write_text("damaged")
    assert "captions.txt is damaged" in refused(1, "index", "verify", copy, "--without-model")


def test_a_missing_source_is_a_usage_error() -> None:
    assert "nowhere.txt" in refused(2, "index", "build", "nowhere.txt", "--out", "made")


def test_info_on_something_else_fails(tmp_path: Path) -> None:
    assert "not a caption collection" in refused(1, "index", "info", tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_caption(tmp_path: Path) -> None:
    source = tmp_path / "captions.txt"
    source.write_bytes("\ufeffa cat\nA cat.\na dog\u2028asleep\n".encode())
    assert "2 captions" in answered("index", "build", source, "--out", tmp_path / "out")
