"""The cgroup's quota, in both versions of cgroups."""

from pathlib import Path

import pytest

from benchmarks.machine import cgroup_quota


@pytest.mark.parametrize(("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", None)])
def test_version_2(tmp_path: Path, text: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_quota(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("200000\n", 2.0), ("-1\n", None)])
def test_version_1(tmp_path: Path, quota: str, cores: float | None) -> None:
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path) == cores


def test_no_cgroup(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None
