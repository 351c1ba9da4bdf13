"""What a shell is told when Tab is pressed."""

import os
import subprocess
import sys

import pytest
from typer.main import get_command

from app.cli import app
from app.settings import ROOT


def completed(line: str) -> list[str]:
    """The words that bash would offer at the end of a line."""
    words = line.split(" ")
    environment = os.environ | {
        "_XMORE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "import sys; from app.cli import app; app(prog_name='xmore')"
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xmore ", ["serve", "classify", "evaluate", "index", "models"]),
        ("xmore index ver", ["verify"]),
        ("xmore classify --la", ["--label", "--labels"]),
        ("xmore classify --format ", ["table", "jsonl", "csv", "json"]),
        ("xmore classify --fusion m", ["mean"]),
        ("xmore classify --model ViT-L-14-3", ["ViT-L-14-336"]),
        ("xmore classify --model ViT-L-14-336 --pretrained ", ["openai"]),
        ("xmore models ge", ["get"]),
        ("xmore models EVA01", ["EVA01-g-14", "EVA01-g-14-plus"]),
        ("xmore models get ViT-L-14-336", ["ViT-L-14-336/openai"]),
    ],
)
def test_a_shell_is_told_what_may_follow(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_completion_can_be_installed() -> None:
    names = {option for parameter in get_command(app).params for option in parameter.opts}
    assert {"--install-completion", "--show-completion"} <= names
