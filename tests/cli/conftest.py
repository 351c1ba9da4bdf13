"""Every command runs in a folder of its own, over the tiny model and its captions."""

import os
from pathlib import Path

import pytest
import torch

from tests.photos import encode, gradient


@pytest.fixture(autouse=True)
def _environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model_dir: Path, tiny_index_dir: Path
) -> None:
    for name in [name for name in os.environ if name.upper().startswith("XMORE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XMORE_MODEL", f"local-dir:{tiny_model_dir}")
    monkeypatch.setenv("XMORE_INDEX", str(tiny_index_dir))
    monkeypatch.setenv("XMORE_PRECISION", "fp32")
    monkeypatch.setenv("XMORE_THREADS", str(torch.get_num_threads()))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode(gradient()))
    return Path(path.name)
