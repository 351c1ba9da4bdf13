"""`plan.json`: what a build in progress is made of, so that only the same build goes on with it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from app.index.manifest import FORMAT_VERSION, CollectionError, Kind, ModelStamp
from app.index.sources.record import Source

PLAN = "plan.json"


class Plan(BaseModel):
    """The sources, the model and the options that decide what the shards hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[2] = FORMAT_VERSION
    kind: Kind
    model: ModelStamp
    shard_records: int
    sources: str

    def differences(self, other: "Plan") -> list[str]:
        """Which parts another plan has otherwise."""
        return [
            name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)
        ]


def sources_fingerprint(sources: Sequence[Source]) -> str:
    """Changes with the sources' order, names, sizes and dates."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.name}\0{source.fingerprint}\n".encode())
    return digest.hexdigest()


def agree(directory: Path, plan: Plan, begun: bool) -> None:
    """Write the plan into a new build's directory, or check that it is that of the build there.

    Args:
        directory: of the build.
        plan: of the build that is wanted.
        begun: whether a shard is finished there.

    Raises:
        CollectionError: another build was begun there.
    """
    path = directory / PLAN
    if not begun:
        path.write_text(plan.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return
    try:
        changed = plan.differences(Plan.model_validate_json(path.read_text(encoding="utf-8")))
    except (ValidationError, UnicodeDecodeError, FileNotFoundError):
        changed = [PLAN]
    if changed:
        raise CollectionError(
            f"an unfinished build of other {' and '.join(changed)} is here. Go on with that one "
            "by giving what it was begun with, or start anew with --restart.",
            directory,
        )
