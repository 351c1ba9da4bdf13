"""The site of `docs/` builds without warnings, asks nothing of others, and shows true numbers."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from app.settings import ROOT

SCRIPT = ROOT / "docs" / "method.py"
LOADING = re.compile(
    r"""<(?:script|img|source|iframe)[^>]*\bsrc=["']?(?P<src>[^"' >]+)"""
    r"""|<link(?P<link>[^>]*)>"""
    r"""|(?:url\(|@import )["']?(?P<css>https?://[^"')]+)"""
)
CONNECTING = {"stylesheet", "preconnect", "icon", "preload", "prefetch", "dns-prefetch"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def loaded(page: str) -> Iterator[str]:
    """What a browser fetches for a page or a style sheet without being asked."""
    for match in LOADING.finditer(page):
        if match["link"] is None:
            yield match["src"] or match["css"]
        elif set(re.findall(r"[a-z-]+", match["link"].partition("rel=")[2])) & CONNECTING:
            yield re.findall(r"""href=["']?([^"' >]+)""", match["link"])[0]


def test_every_page_of_docs_is_on_the_site(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert all((site / page / "index.html").is_file() for page in pages)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    files = [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]
    found = [(file.name, url) for file in files for url in loaded(file.read_text("utf-8"))]
    assert len(found) > 20
    assert [it for it in found if it[1].startswith(("http:", "https:", "//"))] == []


def test_formulas_are_there_without_a_script(site: Path) -> None:
    page = (site / "method" / "index.html").read_text("utf-8")
    assert page.count("<math") > 15
    assert "MathJax" not in page
    assert not re.search(r"\$[^<]*\\", page)


@pytest.fixture(scope="module")
def method() -> ModuleType:
    spec = importlib.util.spec_from_file_location("method", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worked_example_is_what_the_code_computes(method: ModuleType) -> None:
    page = method.PAGE.read_text(encoding="utf-8")
    made = method.fill(page, method.tables(method.load()))
    number = re.compile(r"\d\.\d{3}")
    assert number.sub("#", made) == number.sub("#", page), "run `python docs/method.py`"
    shown, computed = (list(map(float, number.findall(text))) for text in (page, made))
    assert len(shown) > 80
    assert computed == pytest.approx(shown, abs=0.01)
