"""A data set is a bundle or a folder, for all that read one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.quality.judge_sets import read_labelled
from distill.emoji_bundle import is_bundle, read_sets
from sidestep.errors import InvalidData


def test_a_bundle_is_a_file_whatever_its_name(
    write_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = write_bundle(["pizza", "crown"], synonyms={}).rename(tmp_path / "icons")
    assert is_bundle(bundle)
    assert [part.style for part in read_sets(bundle, size_px=16)] == ["noto", "flat"]
    assert not is_bundle(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    assert not is_bundle(tmp_path / "folder.safetensors")


@pytest.mark.parametrize("read", [read_sets, read_labelled])
def test_what_is_missing_is_told_by_its_name(read: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"x\.safetensors is missing; run: sidestep data bundle"):
        read(tmp_path / "x.safetensors", size_px=16)
    with pytest.raises(InvalidData, match=r"is missing; run: sidestep data emoji --out .*/x "):
        read(tmp_path / "x", size_px=16)
