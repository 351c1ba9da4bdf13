"""Folders, COCO files and tar shards: told apart by what they are, and read."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from app.index.sources.detect import detect
from app.index.sources.record import Columns, Fault, Item, Record, Source, SourceError


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def one(path: Path) -> Source:
    (found,) = detect([path])
    return found


def read(path: Path, images: bool = True) -> list[Item]:
    return list(one(path).read(images))


def told(items: list[Item]) -> dict[bytes | None, tuple[str, ...]]:
    """Captions by image."""
    assert all(isinstance(item, Record) for item in items), items
    return {item.image: item.captions for item in items if isinstance(item, Record)}


def faults(items: list[Item]) -> list[str]:
    return [f"{item.origin}: {item.reason}" for item in items if isinstance(item, Fault)]


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_sidecars(tmp_path: Path) -> None:
    write(tmp_path / "b.png", "B")
    write(tmp_path / "b.txt", "a dog\n")
    write(tmp_path / "sub" / "a.jpg", "A")
    write(tmp_path / "sub" / "a.txt", "a cat\none cat\n")
    write(tmp_path / "alone.webp", "C")
    write(tmp_path / ".hidden" / "x.jpg", "X")
    items = read(tmp_path)
    assert faults(items) == ["alone.webp: no .txt beside it"]
    records = [item for item in items if isinstance(item, Record)]
    assert told(list(records)) == {b"B": ("a dog",), b"A": ("a cat", "one cat")}
    assert [item.image for item in read(tmp_path, images=False) if isinstance(item, Record)] == [
        None,
        None,
    ]


def test_a_folder_with_a_caption_table(tmp_path: Path) -> None:
    write(tmp_path / "Images" / "1.jpg", "A")
    write(tmp_path / "Images" / "2.jpg", "B")
    table = 'image,caption\n1.jpg,a cat .\n1.jpg,"a cat, asleep"\n2.jpg,a dog\n'
    write(tmp_path / "captions.txt", table)
    assert told(read(tmp_path)) == {b"A": ("a cat .", "a cat, asleep"), b"B": ("a dog",)}


def test_a_folder_with_a_token_file(tmp_path: Path) -> None:
    write(tmp_path / "1.jpg", "A")
    write(tmp_path / "Flickr8k.token.txt", "1.jpg#0\ta cat\n1.jpg#1\tone cat\n")
    assert told(read(tmp_path)) == {b"A": ("a cat", "one cat")}
    assert len(read(tmp_path, images=False)) == 2


def test_coco(tmp_path: Path) -> None:
    write(tmp_path / "1.jpg", "A")
    whole = {
        "info": {},
        "annotations": [
            {"image_id": 7, "id": 1, "caption": "a cat"},
            {"image_id": 8, "id": 2, "caption": "a dog"},
            {"image_id": 7, "id": 3, "caption": "one cat"},
        ],
        "images": [
            {"id": 7, "file_name": "1.jpg"},
            {"id": 8, "file_name": "gone.jpg"},
            {"id": 9, "file_name": "bare.jpg"},
        ],
    }
    path = write(tmp_path / "captions_val.json", json.dumps(whole))
    for source in (path, tmp_path):
        items = read(source)
        assert told(items[:1]) == {b"A": ("a cat", "one cat")}
        gone, bare = faults(items)
        assert "gone.jpg: its image cannot be read" in gone
        assert "bare.jpg: no caption" in bare


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": []}', '{"images": [1], "annotations": []}']
)
def test_a_json_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"not (JSON|COCO captions)"):
        read(write(tmp_path / "x.json", text))


def test_tar_shards(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "00000.tar",
        [
            ("a.jpg", b"A"),
            ("a.txt", b"a cat\none cat\n"),
            ("a.json", b'{"caption": "other", "alt": "chosen"}'),
            ("dir/b.png", b"B"),
            ("dir/b.json", b'{"captions": ["a dog", "a hound"]}'),
            ("c.webp", b"C"),
            ("d.txt", b"no picture"),
            ("e.jpg", b"E"),
            ("e.json", b"{"),
            ("f.cls", b"7"),
            ("g.seg.jpg", b"G"),
        ],
    )
    items = read(path)
    assert told(items[:2]) == {b"A": ("a cat", "one cat"), b"B": ("a dog", "a hound")}
    assert len(faults(items)) == 3
    assert faults(items)[0] == "00000.tar/c: no .txt and no .json beside it"
    assert faults(items)[1] == "00000.tar/d: no image beside it"
    (first, *_) = detect([path], Columns(text="alt"))[0].read(False)
    assert isinstance(first, Record)
    assert first.captions == ("chosen",)
    texts = read(path, images=False)
    assert ("no picture",) in [item.captions for item in texts if isinstance(item, Record)]


def test_a_truncated_shard_gives_what_it_has(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "x.tar", [(f"{i}.{s}", b"x" * 2000) for i in range(9) for s in ("jpg", "txt")]
    )
    path.write_bytes(path.read_bytes()[:20_000])
    items = read(path)
    assert isinstance(items[0], Record)
    assert "the rest of the shard cannot be read" in faults(items)[-1]


def test_a_folder_of_shards_is_read_in_order_without_their_tables(tmp_path: Path) -> None:
    for name in ("00001.tar", "00000.tar"):
        shard(tmp_path / name, [("a.jpg", b"A"), ("a.txt", name.encode())])
        write(tmp_path / name.replace(".tar", ".parquet"), "metadata")
    assert [source.name for source in detect([tmp_path])] == ["00000.tar", "00001.tar"]


def test_a_folder_of_texts_is_read_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "b")
    write(tmp_path / "a.jsonl", '{"text": "a"}')
    write(tmp_path / "notes.md", "no captions")
    assert [source.name for source in detect([tmp_path])] == ["a.jsonl", "b.txt"]


def test_what_cannot_be_told_is_refused_with_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        detect([tmp_path / "nowhere"])
    with pytest.raises(SourceError, match=r"of no known format; known are .*\.parquet"):
        detect([write(tmp_path / "x.docx", "x")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="without images"):
        detect([tmp_path / "empty"])


def test_a_folder_of_images_with_no_captions_or_too_many_tables_asks(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", "A")
    with pytest.raises(SourceError, match=r"none found.*--images"):
        detect([tmp_path])
    write(tmp_path / "one.csv", "image,caption\n")
    write(tmp_path / "two.csv", "image,caption\n")
    with pytest.raises(SourceError, match=r"one\.csv, two\.csv found"):
        detect([tmp_path])
