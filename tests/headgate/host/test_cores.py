"""How many cores this process has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate.host import cores

HERE = len(os.sched_getaffinity(0))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with sixteen, of which this process has eight."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def grouped(root: Path, **quotas: str) -> int:
    """With ``cpu.max`` of these groups; the process is in a/b."""
    own = root / "cgroup"
    own.write_text("0::/a/b\n")
    for name, quota in quotas.items():
        group = root / "fs" / name.replace("_", "/")
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.max").write_text(f"{quota}\n")
    return cores.available(root / "fs", own)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("quotas", "available"),
    [
        ({}, 8),
        ({"a_b": "max 100000"}, 8),
        ({"a_b": "200000 100000"}, 2),
        ({"a_b": "150000 100000"}, 2),  # part of a core counts as one
        ({"a_b": "1000 100000"}, 1),
        ({"a": "300000 100000", "a_b": "max 100000"}, 3),  # a group above counts, too
        ({"a": "300000 100000", "a_b": "200000 100000"}, 2),
        ({"a_b": "3200000 100000"}, 8),
        ({"a_b": "nonsense"}, 8),
    ],
)
def test_the_least_of_affinity_and_quotas(
    tmp_path: Path, quotas: dict[str, str], available: int
) -> None:
    assert grouped(tmp_path, **quotas) == available


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("quota", "above", "available"),
    [("-1", "-1", 8), ("200000", "-1", 2), ("150000", "-1", 2), ("-1", "300000", 3)],
)
def test_groups_of_the_first_version_count(
    tmp_path: Path, quota: str, above: str, available: int
) -> None:
    own, groups = tmp_path / "cgroup", tmp_path / "fs"
    own.write_text("3:memory:/a/b\n2:cpu,cpuacct:/a/b\n1:name=systemd:/a\n0::/\n")
    for name, value in (("a/b", quota), ("a", above)):
        group = groups / "cpu,cpuacct" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.cfs_quota_us").write_text(f"{value}\n")
        (group / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available(groups, own) == available


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert cores.available(tmp_path, tmp_path / "none") == HERE


def test_here_there_is_at_least_one() -> None:
    assert 1 <= cores.available() <= HERE
