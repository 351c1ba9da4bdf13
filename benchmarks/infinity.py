"""infinity-emb, to compare with: its own virtual environment, a model that it loads, its server."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

_VERSION = "0.0.78"
_MODEL_SCRIPT = Path(__file__).with_name("infinity_model.py")
MODEL_NAME = "clip"


class InfinityError(Exception):
    """infinity-emb cannot be installed or run here; the message says what failed."""


def install(directory: Path) -> Path:
    """Make a virtual environment with infinity-emb, unless it is there; the folder of its programs.

    It gets the torch that runs here. Its extra `vision` would bring an engine for models that are
    not CLIP and pins that do not fit; of that extra CLIP needs pillow and torchvision.

    Raises:
        InfinityError: pip failed.
    """
    programs = directory / "bin"
    stamp = directory / f"infinity-emb-{_VERSION}"
    if stamp.exists():
        return programs
    wanted = [
        f"infinity-emb[server,torch]=={_VERSION}",
        f"torch=={version('torch').partition('+')[0]}",
        f"torchvision=={version('torchvision').partition('+')[0]}",
        "pillow",
        "aiohttp",
    ]
    _run([sys.executable, "-m", "venv", str(directory)])
    _run([str(programs / "pip"), "install", "--disable-pip-version-check", "--quiet", *wanted])
    stamp.touch()
    return programs


def make_model(programs: Path, shape: Path, directory: Path) -> None:
    """Write a model of an open_clip shape with random weights, as transformers' CLIP.

    Raises:
        InfinityError: the script failed.
    """
    _run([str(programs / "python"), str(_MODEL_SCRIPT), str(shape), str(directory)])


def command(programs: Path, directory: Path) -> list[str]:
    """Its server with its defaults, but for the cache of answers, which would answer instead."""
    return [
        str(programs / "infinity_emb"), "v2", "--model-id", str(directory),
        "--served-model-name", MODEL_NAME, "--engine", "torch", "--device", "cpu",
        "--no-vector-disk-cache", "--host", "127.0.0.1", "--port", "PORT",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """This process's, without telemetry and without looking for a hub."""
    quiet = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    return dict(os.environ) | quiet


def _run(arguments: list[str]) -> None:
    try:
        subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment())  # noqa: S603 - our own arguments
    except subprocess.CalledProcessError as error:
        raise InfinityError(f"{' '.join(arguments)}: {error.stderr.strip()[-600:]}") from error
