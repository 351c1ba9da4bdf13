"""What the figures were measured on and with."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from pydantic import BaseModel, ConfigDict

from app.settings import ROOT

_PACKAGES = ("torch", "open_clip_torch", "timm", "faiss-cpu", "numpy", "pillow", "fastapi",
    "uvicorn", "aiohttp")  # fmt: skip
_TELLING_FLAGS = ("avx2", "fma", "avx512", "amx", "vnni", "bf16", "f16c")
_TELLING_VARIABLES = (
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "KMP_",
    "GOMP_",
    "XMORE_",
    "MALLOC_",
    "LD_PRELOAD",
)


class Machine(BaseModel):
    """The machine, the versions, and what the environment changes."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    flags: list[str]
    cores: int
    quota: float | None
    memory_gb: float
    system: str
    python: str
    packages: dict[str, str]
    environment: dict[str, str]
    commit: str


def usable_cores() -> float:
    """Cores that this process may use: those it is bound to, or less by its cgroup's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = cgroup_quota()
    return cores if quota is None else min(cores, quota)


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the cgroup may take, or None where it has no limit.

    Args:
        root: where version 2 or version 1 of cgroups is mounted, as seen from inside a container.
    """
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except FileNotFoundError:
            return None
    return None if limit in ("max", "-1") else int(limit) / int(period)


def describe() -> Machine:
    """This machine, now."""
    fields = _cpuinfo()
    flags = fields.get("flags", fields.get("Features", "")).split()
    return Machine(
        cpu=fields.get("model name", platform.machine()),
        flags=[flag for flag in flags if any(telling in flag for telling in _TELLING_FLAGS)],
        cores=len(os.sched_getaffinity(0)),
        quota=cgroup_quota(),
        memory_gb=psutil.virtual_memory().total / 1e9,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={"torch CPU kernels": torch.backends.cpu.get_cpu_capability()}
        | {name: version(name) for name in _PACKAGES},
        environment={
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_TELLING_VARIABLES) and "KEY" not in name
        },
        commit=_commit(),
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _commit() -> str:
    """Of the checkout; with a plus where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - git
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
