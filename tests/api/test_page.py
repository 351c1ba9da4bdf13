"""How the page at `/` is served: what it may load, how long it is kept, and that it is shipped."""

import re
from pathlib import Path
from zipfile import ZipFile

import pytest
from fastapi.testclient import TestClient
from hatchling.builders.wheel import WheelBuilder

from app.settings import ROOT

WEB = ROOT / "app" / "web"
FILES = ["", *(f"assets/{file.name}" for file in sorted((WEB / "assets").iterdir()))]


@pytest.mark.parametrize("path", FILES)
def test_every_file_may_load_only_what_comes_with_it(client: TestClient, path: str) -> None:
    response = client.get(f"/{path}")
    assert response.status_code == 200
    policy = dict(
        directive.split(maxsplit=1)
        for directive in response.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert set(policy.values()) <= {"'none'", "'self'", "'self' blob:"}
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", FILES)
def test_a_browser_asks_whether_a_file_has_changed(client: TestClient, path: str) -> None:
    first = client.get(f"/{path}")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/{path}", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    for name in ("cache-control", "content-security-policy"):
        assert again.headers[name] == first.headers[name]


def test_all_addresses_are_relative_so_that_it_can_be_mounted_anywhere() -> None:
    for file in (WEB / "index.html", *(WEB / "assets").glob("*.js")):
        text = file.read_text(encoding="utf-8")
        addresses = re.findall(r'(?:href|src|from|ask)[ =(]+"([^"]+)"', text)
        assert not [address for address in addresses if address.startswith(("/", "http"))], file


def test_head_is_answered_and_other_methods_are_not(client: TestClient) -> None:
    head = client.head("/")
    assert head.status_code == 200
    assert head.content == b""
    assert client.post("/").status_code == 405


@pytest.mark.parametrize(
    "path", ["assets/", "assets/no.js", "assets/..%2findex.html", "index.html", "no-such-page"]
)
def test_what_is_not_there_is_a_problem(client: TestClient, path: str) -> None:
    response = client.get(f"/{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_the_wheel_carries_the_page(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {str(file.relative_to(ROOT)) for file in WEB.rglob("*") if file.is_file()}
    assert wanted
    assert wanted <= names
