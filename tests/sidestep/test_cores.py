"""An engine takes no more cores than its container may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidestep.engines import cores
from sidestep.engines.cores import count_cores, cpu_share


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A process's file that names its group, /pod/service."""
    file = tmp_path / "cgroup"
    file.write_text("1:cpu:/elsewhere\n0::/pod/service\n")
    (tmp_path / "mount" / "pod" / "service").mkdir(parents=True)
    return file


def limit(group: Path, inside: str, text: str) -> None:
    (group.parent / "mount" / inside / "cpu.max").write_text(text)


def test_the_least_share_of_all_groups_counts(group: Path) -> None:
    mount = group.parent / "mount"
    assert cpu_share(mount, group) is None
    limit(group, "pod/service", "max 100000\n")
    assert cpu_share(mount, group) is None
    limit(group, "pod", "150000 100000\n")
    assert cpu_share(mount, group) == 1.5
    limit(group, "pod/service", "50000 100000\n")
    assert cpu_share(mount, group) == 0.5


@pytest.mark.parametrize("text", ["", "much", "1 2 3", "100000 0"])
def test_what_cannot_be_read_is_no_limit(group: Path, text: str) -> None:
    limit(group, "pod/service", text)
    assert cpu_share(group.parent / "mount", group) is None


def test_without_version_2_there_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("1:cpu:/elsewhere\n")
    assert cpu_share(tmp_path, tmp_path / "cgroup") is None
    assert cpu_share(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("share", "wanted"), [(None, 64), (2.0, 2), (1.5, 2), (0.1, 1), (99.0, 64)]
)
def test_a_share_is_rounded_up(
    monkeypatch: pytest.MonkeyPatch, share: float | None, wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(cores, "cpu_share", lambda: share)
    assert count_cores() == wanted
