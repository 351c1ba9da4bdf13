"""Every form of labelled set gives the same images and labels."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from app.clip.decode import ImageError
from app.evaluation.datasets.detect import Reading, open_datasets
from app.evaluation.datasets.labelled import DatasetError, LabelledImages
from app.evaluation.datasets.names import class_names
from tests.evaluation.conftest import CLASSES, PER_CLASS, picture

NAMES = ["cup of coffee", "old bicycle", "red car", "tabby cat"]


def opened(path: Path | str, **how: object) -> LabelledImages:
    (dataset,) = open_datasets([str(path)], Reading(**how))  # type: ignore[arg-type]
    return dataset


def files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*.png") if path.name != "broken.png")


def contents(dataset: LabelledImages) -> list[tuple[str, bytes]]:
    """Class name and pixels of every image, sorted."""
    examples = [dataset.load(position) for position in range(dataset.size)]
    return sorted((dataset.classes[e.label], e.image.tobytes()) for e in examples)


@pytest.fixture
def whole(image_folder: Path, tmp_path: Path) -> Path:
    """The image folder without what is broken."""
    copy = shutil.copytree(image_folder, tmp_path / "things")
    (copy / "red car" / "broken.png").unlink()
    return copy


def tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_an_image_folder(image_folder: Path) -> None:
    dataset = opened(image_folder)
    assert (dataset.name, dataset.classes) == ("things", NAMES)
    assert dataset.size == len(CLASSES) * PER_CLASS + 1
    broken = [i for i in range(dataset.size) if dataset.key(i) == "red car/broken.png"]
    with pytest.raises(ImageError, match="not an image"):
        dataset.load(broken[0])
    first = dataset.load(0)
    assert (first.key, first.label, first.image.size) == ("cup_of_coffee/0.png", 0, (60, 48))


def test_a_table(whole: Path, tmp_path: Path) -> None:
    for suffix, dialect in ((".csv", "excel"), (".tsv", "excel-tab")):
        table = tmp_path / f"list{suffix}"
        with table.open("w", newline="") as file:
            writer = csv.writer(file, dialect)
            writer.writerow(["Image", "Label"])
            writer.writerows([path.relative_to(whole), path.parent.name] for path in files(whole))
        assert contents(opened(table, images=whole)) == contents(opened(whole))


def test_columns_of_a_table_may_be_named(whole: Path) -> None:
    table = whole / "list.csv"
    table.write_text("where,what\nred car/0.png,car\n")
    dataset = opened(table, image_column="where", label_column="what")
    assert (dataset.classes, dataset.size) == (["car"], 1)
    with pytest.raises(DatasetError, match=r"'where', 'what'; name the column with --image-column"):
        opened(table)


def test_a_coop_split(whole: Path, tmp_path: Path) -> None:
    numbers = [CLASSES.index(path.parent.name) for path in files(whole)]
    rows = [
        [str(path.relative_to(whole)), number, NAMES[number]]
        for path, number in zip(files(whole), numbers, strict=True)
    ]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": rows[:5], "val": rows[5:9], "test": rows}))
    assert contents(opened(split, images=whole)) == contents(opened(whole))
    one = opened(split, images=whole, split="train")
    assert (one.size, one.classes) == (5, NAMES)
    with pytest.raises(DatasetError, match="not a split file"):
        opened(split, images=whole, split="none")


def test_a_tar_of_class_folders(whole: Path, tmp_path: Path) -> None:
    path = tar(
        tmp_path / "things.tar",
        (("things/" + str(f.relative_to(whole)), f.read_bytes()) for f in files(whole)),
    )
    assert contents(opened(path)) == contents(opened(whole))


def test_webdataset_shards_with_class_numbers(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    found = list(files(whole))
    for shard, part in enumerate((found[:10], found[10:])):
        tar(
            folder / f"{shard}.tar",
            (
                member
                for number, f in enumerate(part)
                for member in (
                    (f"{number:04d}.png", f.read_bytes()),
                    (f"{number:04d}.cls", str(CLASSES.index(f.parent.name)).encode()),
                )
            ),
        )
    (folder / "classnames.txt").write_text("\n".join([*NAMES, "a class without images"]))
    dataset = opened(folder)
    assert dataset.classes == [*NAMES, "a class without images"]
    assert contents(dataset) == contents(opened(whole))
    (folder / "classnames.txt").write_text("too few")
    with pytest.raises(DatasetError, match="no number of a line of classnames"):
        opened(folder)


def test_labels_in_json_members(tmp_path: Path) -> None:
    members = [("a.png", picture(1)), ("a.json", b'{"label": "red_car"}')]
    assert opened(tar(tmp_path / "x.tar", members)).classes == ["red car"]


def test_what_is_no_set_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("words")
    packed = tar(tmp_path / "packed.tar", [("a/b.png", picture(1))], "w:gz")
    bare = tar(tmp_path / "bare.tar", [("b.png", picture(1))])
    for path, said in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "one folder of images for each class"),
        (tmp_path / "notes.txt", "of no known form"),
        (packed, "not an uncompressed tar"),
        (bare, "no .cls, no .json and no folder"),
        ("torchvision:Nothing", "known are CIFAR10"),
        ("torchvision:DTD", "give --root"),
    ):
        with pytest.raises(DatasetError, match=said):
            opened(path, root=tmp_path)


def test_torchvisions_sets_are_read_where_they_are(tmp_path: Path) -> None:
    root = tmp_path / "caltech101" / "101_ObjectCategories"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        (root / name / "image_0001.jpg").write_bytes(picture(7))
    (root / "BACKGROUND_Google").mkdir()
    (root.parent / "Annotations").mkdir()
    dataset = opened("torchvision:Caltech101", root=tmp_path)
    assert (dataset.name, dataset.classes, dataset.size) == ("Caltech101", NAMES, 4)
    assert [dataset.load(position).label for position in range(4)] == [0, 1, 2, 3]
    assert dataset.load(0).image.mode == "RGB"


def test_class_names_come_from_a_file(whole: Path, tmp_path: Path) -> None:
    named = ["espresso", "bike", "", "cat"]
    rows = zip(CLASSES, named, strict=True)
    tsv = tmp_path / "names.tsv"
    tsv.write_text("".join(f"{folder}\t{name}\n" for folder, name in rows))
    dataset = opened(whole, classes=str(tsv))
    assert dataset.classes == ["espresso", "bike", "cat"]
    assert dataset.size == 3 * PER_CLASS
    shutil.copy(tsv, whole / "classes.tsv")
    assert opened(whole).classes == dataset.classes
    as_json = tmp_path / "names.json"
    as_json.write_text(json.dumps(dict(zip(CLASSES, named, strict=True))))
    assert opened(whole, classes=str(as_json)).classes == dataset.classes


def test_class_names_must_be_there_and_differ(tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("a,cat\nb,cat\n")
    with pytest.raises(DatasetError, match="both named 'cat'"):
        class_names(["a", "b"], str(names), None)
    with pytest.raises(DatasetError, match=r"no class name for 1 folders \('c'\)"):
        class_names(["a", "c"], str(names), None)
    with pytest.raises(DatasetError, match="both named 'a b'"):
        class_names(["a_b", "a b"], None, None)
    names.write_text("one,two,three\n")
    with pytest.raises(DatasetError, match="row 1 is not folder and class name"):
        class_names(["one"], str(names), None)


def test_imagenets_names_follow_its_sorted_ids() -> None:
    folders = [f"n{number:08d}" for number in reversed(range(1000))]
    names = class_names(folders, "imagenet", None)
    assert list(names.values()) == list(IMAGENET_CLASSNAMES)
    with pytest.raises(DatasetError, match="1000 classes; here are 2"):
        class_names(folders[:2], "imagenet", None)


def test_a_changed_file_changes_the_fingerprint(whole: Path) -> None:
    before = opened(whole).fingerprint
    assert opened(whole).fingerprint == before
    (whole / "red car" / "0.png").write_bytes(picture(999) + b"\0")
    assert opened(whole).fingerprint != before


def test_sets_of_the_same_name_are_told_apart(image_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(image_folder, tmp_path / "other" / "things")
    names = [d.name for d in open_datasets([str(image_folder), str(other)], Reading())]
    assert len(set(names)) == 2
    assert names[1] == "other/things"


def test_pixels_beyond_the_limit_are_refused(image_folder: Path) -> None:
    dataset = opened(image_folder, max_pixels=100)
    with pytest.raises(ImageError, match="at most 100"):
        dataset.load(0)
    assert np.asarray(opened(image_folder).load(0).image).shape == (48, 60, 3)
