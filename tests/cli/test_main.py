"""What is true of all commands."""

import subprocess
import sys

import pytest

from app import __version__
from app.settings import ROOT
from tests.cli.running import answered, refused


def test_version() -> None:
    assert answered("--version") == f"xmore {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["clasify"], "classify"),
        (["model"], "models"),
        (["index", "verfy"], "verify"),
        (["classify", "--lable", "cat"], "--label"),
        (["classify", "--caption", "3"], "--captions"),
        (["serve", "--prot", "1"], "--port"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_what_may_be_meant(
    typed: list[str], meant: str
) -> None:
    assert meant in refused(2, *typed)


@pytest.mark.parametrize("command", [[], ["classify"], ["index", "build"], ["models"], ["serve"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\n"
        "from app.cli import app\n"
        "try:\n"
        f"    app({[*command, '--help']!r})\n"
        "finally:\n"
        "    heavy = {'torch', 'fastapi', 'open_clip', 'faiss', 'httpx', 'PIL', 'pyarrow'}\n"
        "    print('heavy:', *heavy & set(sys.modules))\n"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy:"
