"""The command line: what it prints, and the exit code of what goes wrong."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from app import __version__
from app.cli import app
from app.engine import Engine, ImageFile, Question
from app.index.collection import Collection
from tests.photos import encode, gradient

LABELS = ["-l", "cat", "-l", "dog", "-l", "car"]


@pytest.fixture(autouse=True)
def _environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model_dir: Path, tiny_index_dir: Path
) -> None:
    for name in [name for name in os.environ if name.upper().startswith("XMORE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XMORE_MODEL", f"local-dir:{tiny_model_dir}")
    monkeypatch.setenv("XMORE_INDEX", str(tiny_index_dir))
    monkeypatch.setenv("XMORE_PRECISION", "fp32")
    monkeypatch.setenv("XMORE_THREADS", str(torch.get_num_threads()))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode(gradient()))
    return Path(path.name)


def unstyle(text: str) -> str:
    """Without the colours that a CI's environment may force."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answered(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return unstyle(result.stdout)


def refused(code: int, *arguments: str | Path) -> str:
    """What is said on stderr, on one line."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert not result.stdout
    assert "Traceback" not in result.stderr
    return " ".join(unstyle(result.stderr).replace("│", " ").split())


def test_version() -> None:
    assert answered("--version") == f"xmore {__version__}\n"


def test_classify_prints_a_table(photo: Path) -> None:
    said = answered("classify", photo, *LABELS)
    assert "photo.png" in said
    for word in ("label", "fused", "image", "captions", "weights: image"):
        assert word in said
    for label in ("cat", "dog", "car"):
        assert any(line.startswith(label) and "%" in line for line in said.splitlines())
    shown = [line for line in said.splitlines() if line.startswith("  ")]
    assert len(shown) == 5


def test_without_captions_the_table_has_a_dash(photo: Path) -> None:
    said = answered("classify", photo, *LABELS, "--captions", "0")
    rows = [line for line in said.splitlines() if line.startswith(("cat", "dog", "car"))]
    assert len(rows) == 3
    assert all(row.rstrip().endswith("-") for row in rows)


def test_classify_prints_the_engines_answer_as_json(photo: Path, tiny_engine: Engine) -> None:
    (result,) = json.loads(answered("classify", photo, *LABELS, "--json"))
    expected = tiny_engine.classify(
        [ImageFile("photo.png", photo.read_bytes())], Question(labels=["cat", "dog", "car"])
    ).results[0]
    assert result["filename"] == "photo.png"
    assert [p["label"] for p in result["predictions"]] == [p.label for p in expected.predictions]
    for ours, theirs in zip(result["predictions"], expected.predictions, strict=True):
        assert ours["probability"] == pytest.approx(theirs.probability, abs=1e-4)
        assert ours["text_probability"] == pytest.approx(theirs.text_probability, abs=1e-4)
    assert [c["text"] for c in result["captions"]] == [c.text for c in expected.captions]
    assert result["text"]["weight"] == pytest.approx(expected.text.weight, abs=1e-4)


def test_several_images_are_answered_in_order(photo: Path) -> None:
    other = Path("other.jpg")
    other.write_bytes(encode(gradient().rotate(90), "JPEG"))
    results = json.loads(answered("classify", photo, other, photo, *LABELS, "--json"))
    assert [result["filename"] for result in results] == ["photo.png", "other.jpg", "photo.png"]
    assert results[0] == results[2]


def test_options_reach_the_question(photo: Path) -> None:
    (result,) = json.loads(
        answered("classify", photo, *LABELS, "-k", "3", "--fusion", "mean", "-t", "{}", "--json")
    )
    assert len(result["captions"]) == 3
    assert result["image"]["weight"] == 0.5


def test_a_missing_file_is_a_usage_error() -> None:
    assert "nowhere.png" in refused(2, "classify", "nowhere.png", *LABELS)


def test_no_label_is_a_usage_error(photo: Path) -> None:
    assert "--label" in refused(2, "classify", photo)


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_without_one_place_is_a_usage_error(photo: Path, template: str) -> None:
    assert "exactly one {}" in refused(2, "classify", photo, *LABELS, "-t", template)


def test_a_label_twice_is_a_usage_error(photo: Path) -> None:
    assert "more than once: 'cat'" in refused(2, "classify", photo, *LABELS, "-l", " cat ")


@pytest.mark.parametrize("option", [["-k", "65"], ["-k", "-1"], ["--fusion", "vote"]])
def test_an_option_out_of_range_is_a_usage_error(photo: Path, option: list[str]) -> None:
    assert option[0].lstrip("-") in refused(2, "classify", photo, *LABELS, *option)


def test_a_file_that_is_no_image_fails(photo: Path) -> None:
    Path("text.png").write_text("not an image")
    said = refused(1, "classify", photo, "text.png", *LABELS)
    assert said.startswith("error: text.png: not an image")


def test_a_bad_index_directory_fails(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    monkeypatch.setenv("XMORE_INDEX", "nowhere")
    said = refused(1, "classify", photo, *LABELS)
    assert said.startswith("error: nowhere: not a caption collection")
    assert "xmore index build" in said


def test_a_bad_model_directory_fails(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    monkeypatch.setenv("XMORE_MODEL", "local-dir:nowhere")
    said = refused(1, "classify", photo, *LABELS)
    assert said.startswith("error: The model local-dir:nowhere cannot be loaded")


@pytest.mark.parametrize(
    ("name", "value"),
    [("XMORE_THREADS", "many"), ("XMORE_MAX_PIXELS", "0"), ("XMORE_PRECISION", "fp8")],
)
def test_a_bad_setting_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, photo: Path, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert refused(2, "classify", photo, *LABELS).startswith(f"error: {name}: ")


def test_an_architecture_without_weights_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    monkeypatch.setenv("XMORE_MODEL", "ViT-B-32")
    assert "XMORE_PRETRAINED" in refused(2, "classify", photo, *LABELS)


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


def test_brackets_in_labels_and_names_are_shown_as_they_are(tmp_path: Path, photo: Path) -> None:
    odd = tmp_path / "p[red].png"
    odd.write_bytes(photo.read_bytes())
    shown = answered("classify", odd, "-l", "[/x]cat", "-l", "[red]dog")
    assert "[/x]cat" in shown
    assert "[red]dog" in shown
    odd.write_bytes(b"no image")
    assert "p[red].png" in refused(1, "classify", odd, "-l", "cat")


def test_a_byte_order_mark_is_no_part_of_the_first_caption(tmp_path: Path) -> None:
    source = tmp_path / "captions.txt"
    source.write_bytes("\ufeffa cat\nA cat.\na dog\u2028asleep\n".encode())
    assert "2 captions" in answered("index", "build", source, "--out", tmp_path / "out")
