from __future__ import annotations

from pathlib import Path

import pytest

from sidestep.files import atomic_folder


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "model") as new:
            (new / "a.txt").write_text(content)
    assert (tmp_path / "model" / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_stop_in_mid_change_leaves_the_older_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "model") as new:
        (new / "a.txt").write_text("old")
    rename, renamed = Path.rename, list[Path]()

    def stopped(path: Path, target: Path) -> Path:
        renamed.append(path)
        if len(renamed) == 2:  # the old one is aside, the new one not there yet
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "model") as new:
        (new / "a.txt").write_text("new")
    assert (tmp_path / "model" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_error_leaves_the_older_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as new:
        (new / "a.txt").write_text("old")
    with pytest.raises(ValueError, match="no"), atomic_folder(tmp_path / "model"):
        raise ValueError("no")
    assert (tmp_path / "model" / "a.txt").read_text() == "old"
