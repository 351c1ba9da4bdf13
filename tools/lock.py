"""Write `requirements.lock`: what the image installs, with the versions of this environment.

    python -m tools.lock > requirements.lock

The closure of the project's own dependencies, without extras. Left out is what only the CUDA builds
of torch need: the image takes torch and torchvision of the same versions from PyTorch's CPU index.
"""

import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_CUDA = ("nvidia-", "cuda-", "triton")
_HEADER = """\
# What the image installs. Made by `make lock` from a tested environment; do not edit.
# torch and torchvision come from PyTorch's CPU index, in these versions.
"""


def closure(requirements: list[str]) -> dict[str, str]:
    """Names and versions of all that the requirements need, as installed here."""
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name.startswith(_CUDA):
            continue
        installed = distribution(name)
        found[name] = installed.version.partition("+")[0]
        for text in installed.requires or []:
            needed = Requirement(text)
            wanted = any(
                needed.marker is None or needed.marker.evaluate({"extra": extra})
                for extra in ("", *requirement.extras)
            )
            if wanted and canonicalize_name(needed.name) not in found:
                waiting.append(needed)
    return found


def main() -> None:
    """Print the lock."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"{name}=={version}\n" for name, version in closure(project["dependencies"]).items()]
    sys.stdout.write(_HEADER + "".join(sorted(lines)))


if __name__ == "__main__":
    main()
