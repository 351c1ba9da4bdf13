"""`xmore classify`: what it prints, and the exit code of what goes wrong."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.cli.output import Format
from app.engine import Engine, ImageFile, Question
from tests.cli.running import LABELS, answered, refused, run, unstyle
from tests.photos import encode, gradient


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
    assert result["modalities"]["text"]["weight"] == pytest.approx(expected.text.weight, abs=1e-4)


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
    assert result["modalities"]["image"]["weight"] == 0.5


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


def test_a_file_that_is_no_image_is_named_and_the_others_are_answered(photo: Path) -> None:
    Path("text.png").write_text("not an image")
    result = run("classify", "text.png", photo, "--json", *LABELS)
    assert result.exit_code == 1
    assert [answer["filename"] for answer in json.loads(result.stdout)] == ["photo.png"]
    first, last = unstyle(result.stderr).splitlines()
    assert first.startswith("error: text.png: not an image")
    assert last == "1 of 2 images could not be used"


def test_a_strict_run_ends_at_the_first_bad_image(photo: Path) -> None:
    Path("text.png").write_text("not an image")
    result = run("classify", photo, "text.png", photo, "--format", "jsonl", "--strict", *LABELS)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert unstyle(result.stderr).startswith("error: text.png: not an image")


def test_a_file_that_may_not_be_read_is_a_bad_image(photo: Path, tmp_path: Path) -> None:
    link = tmp_path / "gone.png"
    folder = tmp_path / "folder"
    folder.mkdir()
    link.symlink_to(folder / "nowhere.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    result = run("classify", folder, photo, *LABELS)
    assert result.exit_code == 1
    assert "folder/gone.png: cannot be read (No such file" in unstyle(result.stderr)


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


def test_brackets_in_labels_and_names_are_shown_as_they_are(tmp_path: Path, photo: Path) -> None:
    odd = tmp_path / "p[red].png"
    odd.write_bytes(photo.read_bytes())
    shown = answered("classify", odd, "-l", "[/x]cat", "-l", "[red]dog")
    assert "[/x]cat" in shown
    assert "[red]dog" in shown
    odd.write_bytes(b"no image")
    assert "p[red].png" in refused(1, "classify", odd, "-l", "cat")


def filenames(*arguments: str | Path) -> list[str]:
    """The images that are answered, in order."""
    lines = answered("classify", *arguments, "-f", "jsonl", "-k", "0", *LABELS).splitlines()
    return [json.loads(line)["filename"] for line in lines]


@pytest.fixture
def album() -> Path:
    folder = Path("album")
    (folder / "2024").mkdir(parents=True)
    for name in ("b.png", "a.png", "2024/c.png", "photo[1].png", ".hidden.png"):
        (folder / name).write_bytes(encode(gradient()))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_stands_for_all_images_below_it(album: Path) -> None:
    expected = ["album/2024/c.png", "album/a.png", "album/b.png", "album/photo[1].png"]
    assert filenames(album) == expected


@pytest.mark.usefixtures("album")
def test_a_pattern_stands_for_the_files_that_it_matches() -> None:
    assert filenames("album/[ab].png") == ["album/a.png", "album/b.png"]
    assert filenames("album/**/*.png", "album/b.png")[:2] == ["album/2024/c.png", "album/a.png"]
    assert filenames("album/photo[1].png") == ["album/photo[1].png"]


def test_what_leads_to_no_image_is_a_usage_error() -> None:
    Path("empty").mkdir()
    assert "no image in the folder 'empty'" in refused(2, "classify", "empty", *LABELS)
    assert "No file matches '*.jpg'" in refused(2, "classify", "*.jpg", *LABELS)
    assert "download the image" in refused(2, "classify", "http://a.test/cat.jpg", *LABELS)


def test_more_images_than_one_batch_are_answered_in_order() -> None:
    paths = []
    for number in range(70):
        paths.append(f"{number:03}.png")
        Path(paths[-1]).write_bytes(encode(gradient().rotate(5 * number)))
    Path(paths[33]).write_text("broken")
    result = run("classify", *paths, "-f", "jsonl", *LABELS)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["filename"] for answer in answers] == [*paths[:33], *paths[34:]]
    assert "1 of 70 images" in unstyle(result.stderr)
    (alone,) = json.loads(answered("classify", paths[50], "--json", *LABELS))
    for ours, theirs in zip(answers[49]["predictions"], alone["predictions"], strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-5)


@pytest.mark.parametrize("from_stdin", [False, True])
def test_labels_may_come_from_a_file_or_stdin(photo: Path, *, from_stdin: bool) -> None:
    text = "\ufeffcat\r\n\n  dog \nein Hündchen\n"
    Path("labels.txt").write_text(text, encoding="utf-8")
    source = "-" if from_stdin else "labels.txt"
    arguments = ["classify", str(photo), "-l", "car", "--labels", source, "--json"]
    result = CliRunner().invoke(app, arguments, input=text.encode() if from_stdin else None)
    (answer,) = json.loads(result.stdout)
    labels = {prediction["label"] for prediction in answer["predictions"]}
    assert labels == {"car", "cat", "dog", "ein Hündchen"}


def test_a_file_without_labels_is_a_usage_error(photo: Path) -> None:
    Path("labels.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"\xff\xfe")
    assert "no label in 'labels.txt'" in refused(2, "classify", photo, "--labels", "labels.txt")
    assert "not UTF-8" in refused(2, "classify", photo, "--labels", "latin.txt")
    assert "cannot be read" in refused(2, "classify", photo, "--labels", "nowhere.txt")


def test_the_formats_agree(photo: Path) -> None:
    common: tuple[str | Path, ...] = ("classify", photo, photo, *LABELS)
    array = json.loads(answered(*common, "--json"))
    assert json.loads(answered(*common, "--format", "json")) == array
    lines = answered(*common, "--format", "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == array
    rows = list(csv.DictReader(io.StringIO(answered(*common, "--format", "csv"))))
    assert len(rows) == 6
    first, prediction = rows[0], array[0]["predictions"][0]
    assert (first["filename"], first["rank"]) == ("photo.png", "1")
    assert first["label"] == prediction["label"]
    assert float(first["text_probability"]) == prediction["text_probability"]
    assert float(first["image_weight"]) == array[0]["modalities"]["image"]["weight"]


def test_without_captions_a_cell_is_empty(photo: Path) -> None:
    said = answered("classify", photo, *LABELS, "-f", "csv", "-k", "0", "--top-k", "1")
    (row,) = csv.DictReader(io.StringIO(said))
    assert row["text_probability"] == ""
    assert float(row["image_weight"]) == 1


def test_answers_may_go_to_a_file(photo: Path) -> None:
    for format_ in Format:
        arguments: tuple[str | Path, ...] = ("classify", photo, *LABELS, "--format", format_)
        assert answered(*arguments, "--out", "answers") == ""
        assert Path("answers").read_text(encoding="utf-8") == answered(*arguments)


def test_a_file_that_cannot_be_written_fails(photo: Path) -> None:
    assert "nowhere" in refused(1, "classify", photo, *LABELS, "--out", "nowhere/answers.csv")


def test_all_images_bad_leaves_valid_json() -> None:
    Path("text.png").write_text("not an image")
    assert json.loads(run("classify", "text.png", "--json", *LABELS).stdout) == []


def test_only_the_best_labels_are_told(photo: Path) -> None:
    (result,) = json.loads(answered("classify", photo, *LABELS, "--top-k", "2", "--json"))
    assert len(result["predictions"]) == 2


def test_options_that_exclude_each_other_are_a_usage_error(photo: Path) -> None:
    common: tuple[str | Path, ...] = ("classify", photo, *LABELS)
    assert "exclude each other" in refused(2, *common, "--json", "--format", "csv")
    assert "own model" in refused(2, *common, "--server", "http://a.test", "--model", "RN50")


def test_the_index_may_be_a_directory_or_a_name(
    monkeypatch: pytest.MonkeyPatch, photo: Path, tiny_index_dir: Path
) -> None:
    Path("captions.txt").write_text("one thing\nanother thing\n")
    answered("index", "build", "captions.txt", "--out", "made")

    def captions(index: str) -> int:
        (result,) = json.loads(answered("classify", photo, *LABELS, "--json", "--index", index))
        return len(result["captions"])

    assert captions("made") == 2
    assert captions("tiny-index") == 16
    monkeypatch.setenv("XMORE_INDEX", f"many={tiny_index_dir},few=made")
    assert [captions("many"), captions("few")] == [16, 2]
    assert "many, few" in refused(2, "classify", photo, *LABELS, "--index", "none")


def test_a_long_label_is_warned_of_once(photo: Path) -> None:
    result = run("classify", photo, photo, "-l", "cat " * 40, "-l", "dog", "--json")
    assert result.exit_code == 0
    assert unstyle(result.stderr).count("warning: label 1 is longer") == 1
