"""The commands of `docs/tutorial.md`, run in order in one shell on the carried model."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from app.settings import ROOT
from tests.serving import free_port

PAGE = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(
    r"(?:<!-- not run by the tests: (?P<why>[^>]+) -->\n)?"
    r"```(?P<language>sh|text)\n(?P<text>.*?)```\n",
    re.DOTALL,
)
_END = "that was block"


class Block(NamedTuple):
    """A block of the page: commands, or words that the last ones print."""

    language: str
    text: str
    why_not_run: str | None


def blocks() -> list[Block]:
    page = PAGE.read_text(encoding="utf-8")
    found = [Block(m["language"], m["text"], m["why"]) for m in _BLOCK.finditer(page)]
    assert len(found) == page.count("```") // 2, "a block is neither sh nor text"
    return found


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """What the first block of the tutorial leaves behind: the commands, and the checkout's data."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, call in (("xmore", "-m app"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        (commands / name).chmod(0o755)
    (tmp_path / "index_data").symlink_to(ROOT / "index_data")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("XMORE_")}
    return clean | {
        "PATH": f"{commands}{os.pathsep}{clean['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XMORE_PRECISION": "fp32",
        "XMORE_PORT": str(free_port()),
        "COLUMNS": "200",
    }


def test_the_commands_run_and_print_what_the_page_says(
    tmp_path: Path, shell: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = [block for block in blocks() if block.why_not_run is None]
    script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for number, block in enumerate(run):
        if block.language == "sh":
            script += [block.text, f"echo '{_END} {number}'"]
    text = "\n".join(script).replace(":8000", f":{shell['XMORE_PORT']}")
    done = subprocess.run(  # noqa: S603 - the commands of our own page
        ["bash", "-c", text],  # noqa: S607 - whichever bash there is
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    printed = re.split(rf"{_END} \d+\n", done.stdout)
    last = -1
    for block in run:
        if block.language == "sh":
            last += 1
            continue
        missing = words(block.text) - words(printed[last])
        assert not missing, f"not printed: {missing}\n{printed[last]}"
    with capsys.disabled():
        for block in blocks():
            if block.why_not_run:
                first = block.text.splitlines()[0]
                sys.stdout.write(f"\nnot run ({block.why_not_run}): {first} ...")


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text))


def test_what_is_not_run_is_told_on_the_page_too() -> None:
    unrun = [block for block in blocks() if block.why_not_run]
    assert len(unrun) == PAGE.read_text(encoding="utf-8").count("**Needs a network** (")
