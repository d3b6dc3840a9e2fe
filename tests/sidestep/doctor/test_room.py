"""Disks and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidestep.doctor.room import GIB, check, check_disk, check_memory


def test_this_machine_has_room_for_tests() -> None:
    findings = list(check())
    assert {finding.subject for finding in findings} == {"disk", "memory"}
    assert "problem" not in {finding.level for finding in findings}


@pytest.mark.parametrize(
    ("free", "level"), [(GIB // 5, "problem"), (9 * GIB, "note"), (50 * GIB, "ok")]
)
def test_a_full_disk(free: int, level: str) -> None:
    found = check_disk(Path("place"), free)
    assert found.level == level
    assert bool(found.mend) == (level == "problem")


@pytest.mark.parametrize(
    ("free", "level"), [(GIB // 3, "problem"), (9 * GIB, "note"), (50 * GIB, "ok"), (None, "note")]
)
def test_little_memory(free: int | None, level: str) -> None:
    assert check_memory(free).level == level
