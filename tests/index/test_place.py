"""Where a collection lies, by what the settings say."""

from pathlib import Path

import pytest

from app.index.place import MilvusAddress, MilvusOptions, parse_place


@pytest.mark.parametrize("text", ["some/where", "/data/x.db/y", "milvus", "./milvus:x"])
def test_anything_else_is_a_directory(text: str) -> None:
    assert parse_place(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "uri", "collection"),
    [
        ("milvus://there/photos", "http://there:19530/", "photos"),
        ("milvus://10.0.0.5:19531/p2", "http://10.0.0.5:19531/", "p2"),
        ("milvus://[::1]:7/_x", "http://[::1]:7/", "_x"),
        ("milvuss://there:443/photos", "https://there:443/", "photos"),
    ],
)
def test_a_server_is_named_by_its_url(text: str, uri: str, collection: str) -> None:
    place = parse_place(text)
    assert place == MilvusAddress(text, uri.rstrip("/"), collection)
    assert isinstance(place, MilvusAddress)
    assert not place.is_embedded
    assert str(place) == text


@pytest.mark.parametrize("path", ["/data/file.db", "data/file.db", "file.db"])
def test_the_embedded_engine_is_named_by_its_file(path: str) -> None:
    place = parse_place(f"milvus:{path}/photos")
    assert place == MilvusAddress(f"milvus:{path}/photos", path, "photos")
    assert isinstance(place, MilvusAddress)
    assert place.is_embedded


@pytest.mark.parametrize(
    "text",
    [
        "milvus://there",
        "milvus://there/",
        "milvus:///photos",
        "milvus://there/2photos",
        "milvus://there/a-b",
        "milvus://there:port/photos",
        "milvus://there/database/photos",
        "milvus:data/photos",
        "milvuss:file.db/photos",
        "milvus:photos",
    ],
)
def test_what_begins_like_a_url_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it looks like milvus://HOST:PORT/NAME"):
        parse_place(text)


def test_a_secret_has_no_place_in_a_url() -> None:
    with pytest.raises(ValueError, match="set XMORE_MILVUS_TOKEN") as caught:
        parse_place("milvus://me:sesame@there/photos")
    assert "sesame" not in str(caught.value)
    assert "sesame" not in repr(MilvusOptions(token="sesame"))  # noqa: S106 - made up
