"""Run a command and look at what it says."""

import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from app.cli import app
from app.settings import ROOT

LABELS = ["-l", "cat", "-l", "dog", "-l", "car"]


def unstyle(text: str) -> str:
    """Without the colours that a CI's environment may force."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answered(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return unstyle(result.stdout)


def refused(code: int, *arguments: str | Path) -> str:
    """What is said on stderr, on one line."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert not result.stdout
    assert "Traceback" not in result.stderr
    return " ".join(unstyle(result.stderr).replace("│", " ").split())


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own; paths are from the root of the repository."""
    command = [sys.executable, "-m", "app", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, cwd=ROOT, **options)  # noqa: S603 - this interpreter


def watched(
    *arguments: str | Path, both: bool = False, environment: dict[str, str] | None = None
) -> tuple[str, str]:
    """What stands on a terminal, and what goes through a pipe in place of stdout.

    Args:
        arguments: the command, which must succeed.
        both: whether stdout is the terminal too.
        environment: what is added to this process's own.
    """
    with ExitStack() as stack:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 100))
        process = stack.enter_context(
            start(
                *arguments,
                stdout=slave if both else subprocess.PIPE,
                stderr=slave,
                env=os.environ | {"TERM": "xterm"} | (environment or {}),
            )
        )
        os.close(slave)
        seen = b""
        while chunk := _read(master):
            seen += chunk
        os.close(master)
        piped = b"" if process.stdout is None else process.stdout.read()
    assert process.returncode == 0, seen
    return unstyle(seen.decode()), piped.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other side is closed
        return b""
