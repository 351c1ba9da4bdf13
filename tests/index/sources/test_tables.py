"""Text, CSV, TSV, JSON lines and Parquet: what is read, what is a fault, what is refused."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from app.index.sources import tables
from app.index.sources.detect import detect
from app.index.sources.record import Columns, Fault, Item, Record, Source, SourceError

CAPTIONS = ["a cat", "ein Hündchen, müde", '猫 "in quotes"']


def source(path: Path, **options: Any) -> Source:
    (found,) = detect([path], **options)
    return found


def items(path: Path, images: bool = False, **options: Any) -> list[Item]:
    return list(source(path, **options).read(images))


def captions(path: Path, **options: Any) -> list[str]:
    found = items(path, **options)
    assert all(isinstance(item, Record) for item in found), found
    return [caption for item in found if isinstance(item, Record) for caption in item.captions]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_has_a_caption_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "c.txt", "\ufeffa cat\r\na dog\n\n")
    assert captions(path) == ["a cat", "a dog", ""]
    assert [item.origin for item in items(path)] == ["c.txt:1", "c.txt:2", "c.txt:3"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("column", ["caption", "TEXT", "title"])
def test_the_column_is_found_by_its_usual_name(tmp_path: Path, suffix: str, column: str) -> None:
    sep = "," if suffix == "csv" else "\t"
    path = write(tmp_path / f"c.{suffix}", f"id{sep}{column}\n1{sep}a cat\n2{sep}a dog\n")
    assert captions(path) == ["a cat", "a dog"]


def test_quotes_belong_to_csv_and_not_to_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", 'caption,n\n"a cat, asleep",1\n"two\nlines",2\n')
    assert captions(path) == ["a cat, asleep", "two\nlines"]
    path = write(tmp_path / "c.tsv", 'caption\tn\n"a cat\t1\n')
    assert captions(path) == ['"a cat']


def test_a_column_is_chosen_by_name_or_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv", "caption\talt\nno\tyes\n")
    assert captions(path, columns=Columns(text="Alt")) == ["yes"]
    path = write(tmp_path / "bare.tsv", "web\ta cat\nweb\ta dog\n")
    assert captions(path, columns=Columns(text="2")) == ["a cat", "a dog"]


def test_one_column_needs_no_name(tmp_path: Path) -> None:
    assert captions(write(tmp_path / "c.csv", "a cat\na dog\n")) == ["a cat", "a dog"]
    assert captions(write(tmp_path / "d.csv", "caption\na dog\n")) == ["a dog"]


def test_gzip_is_read_through(tmp_path: Path) -> None:
    path = tmp_path / "c.tsv.gz"
    path.write_bytes(gzip.compress(b"web\ta cat\nweb\ta dog\n"))
    assert captions(path, columns=Columns(text="2")) == ["a cat", "a dog"]
    path.write_bytes(gzip.compress(b"caption\nx\n" + b"a cat\n" * 1000)[:-12])
    found = items(path)
    assert isinstance(found[-1], Fault)
    assert "cannot be read" in found[-1].reason


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"caption": "a cat"}, {"captions": ["a dog", "a hound"]}, {"text": "a fox"}]
    path = write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert captions(path) == ["a cat", "a dog", "a hound", "a fox"]
    assert captions(write(tmp_path / "d.ndjson", '{"alt": "x"}'), columns=Columns(text="alt")) == [
        "x"
    ]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    parquet.write_table(pa.table({"url": ["a"] * 3, "TEXT": CAPTIONS}), path)
    assert captions(path) == CAPTIONS
    assert [item.position for item in items(path)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_every_caption_comes_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "c.txt", "\n".join(CAPTIONS))
    assert captions(path) == CAPTIONS
    path = write(tmp_path / "c.jsonl", "\n".join(json.dumps({"text": c}) for c in CAPTIONS))
    assert captions(path) == CAPTIONS


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("c.txt", b"fine\n\xff\xfe\nfine\n", "not UTF-8"),
        ("c.csv", b"id,caption\n1,fine\n2\n3,fine\n", "1 columns only"),
        ("c.csv", b"id,caption\n1,fine\n2,\xff\n3,fine\n", "not UTF-8"),
        ("c.jsonl", b'{"text": "fine"}\n{"text":\n{"text": "fine"}', "not JSON"),
        ("c.jsonl", b'{"text": "fine"}\n[1]\n{"text": "fine"}', "not a JSON object"),
        ("c.jsonl", b'{"text": "fine"}\n{"a": 1}\n{"text": "fine"}', "no caption among its keys"),
        ("c.jsonl", b'{"text": "fine"}\n{"text": 7}\n{"text": "fine"}', "not text but int"),
        ("c.jsonl", b'{"text": "fine"}\n{"text": null}\n{"text": "fine"}', "NoneType"),
        ("c.jsonl", b'{"text": "fine"}\n{"text": "\\ud800"}\n{"text": "fine"}', "not UTF-8"),
    ],
)
def test_a_bad_row_is_a_fault_and_those_after_it_are_read(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    first, bad, last = items(path)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(bad, Fault)
    assert reason in bad.reason
    assert bad.origin.startswith(f"{name}:")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_without_a_usual_name_asks_for_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.table({"a": ["x"], "b": ["y"]}), path)
    else:
        write(path, "a,b\nx,y\n".replace(",", "," if suffix == "csv" else "\t"))
    with pytest.raises(SourceError, match=r"'a', 'b'.*--text-column"):
        items(path)
    with pytest.raises(SourceError, match="no column 'c'"):
        items(path, columns=Columns(text="c"))


def test_a_damaged_parquet_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"c\.parquet: cannot be read"):
        items(path)


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"xmore\[build\]"):
        tables.import_parquet()


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {Path(name).name}".encode())


def test_rows_of_one_image_are_one_record(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.jpg")
    table = "image,caption\na.jpg,a cat\na.jpg,one cat\nb.jpg,a dog\nc.jpg,gone\n"
    path = write(tmp_path / "t.csv", table)
    assert source(path).has_images
    first, second, missing = items(path, images=True)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.image, first.captions) == (b"picture a.jpg", ("a cat", "one cat"))
    assert (second.image, second.captions) == (b"picture b.jpg", ("a dog",))
    assert isinstance(missing, Fault)
    assert "No such file" in missing.reason
    assert str(tmp_path) not in missing.reason
    assert [len(item.captions) for item in items(path) if isinstance(item, Record)] == [1] * 4


def test_images_may_lie_in_another_folder_or_below(tmp_path: Path) -> None:
    pictures(tmp_path / "images" / "deep", "a.jpg")
    path = write(tmp_path / "t.jsonl", '{"file_name": "a.jpg", "text": "a cat"}\n')
    (found,) = detect([path], images=tmp_path / "images")[0].read(True)
    assert isinstance(found, Record)
    assert found.image == b"picture a.jpg"


def test_parquet_may_hold_the_images_themselves(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg")
    images = [{"bytes": b"one", "path": None}, {"bytes": None, "path": "a.jpg"}, None]
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"image": images, "caption": ["x", "y", "z"]}), path)
    one, two, none = items(path, images=True)
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (one.image, two.image) == (b"one", b"picture a.jpg")
    assert isinstance(none, Fault)
    assert "none in the row" in none.reason
    raw = tmp_path / "raw.parquet"
    parquet.write_table(pa.table({"jpg": [b"1", b"1"], "caption": ["x", "y"]}), raw)
    found = items(raw, images=True, columns=Columns(image="jpg"))
    assert [item.image for item in found if isinstance(item, Record)] == [b"1", b"1"]


def test_the_fingerprint_changes_with_file_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "caption,alt\nx,y\n")
    before = source(path).fingerprint
    assert source(path).fingerprint == before
    assert source(path, columns=Columns(text="alt")).fingerprint != before
    write(path, "caption,alt\nx,yy\n")
    assert source(path).fingerprint != before
