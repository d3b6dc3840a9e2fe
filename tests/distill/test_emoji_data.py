"""The data builder on small packages of its own: real archives, real SVG, real renderer."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill import emoji_data
from distill.emoji_sources import SOURCES, Source, caption, kept_names, styled
from sidestep.errors import InvalidData
from sidestep.files import sha256

SQUARE = '<path fill="#f00" d="M2 2h12v12H2z"/>'


def write_package(folder: Path, source: Source, icons: dict[str, object]) -> Source:
    """Write what `npm pack` would have fetched; returns the source with the right checksum."""
    categories = {"Food & Drink": ["red-apple", "pizza"], "Flags": ["flag-italy"]}
    files = {
        "icons.json": {"icons": icons, "width": 16, "height": 16},
        "metadata.json": {"categories": categories} if source.style == "noto" else {},
    }
    archive = folder / "packages" / source.archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, value in files.items():
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return replace(source, sha256=sha256(archive))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    icons: dict[str, object] = {
        "red-apple": {"body": SQUARE},
        "pizza": {"body": SQUARE, "width": 32, "height": 32},
        "old-apple": {"body": SQUARE, "hidden": True},
        "flag-italy": {"body": SQUARE},
    }
    sources = tuple(write_package(tmp_path, source, icons) for source in SOURCES)
    monkeypatch.setattr(emoji_data, "SOURCES", sources)
    return tmp_path


def test_pictures_are_rendered_on_white_with_their_names(packages: Path) -> None:
    sets = emoji_data.build(packages, size_px=32)
    assert [s.style for s in sets] == ["noto", "fluent", "flat", "twemoji"]
    assert all(s.names == ["pizza", "red-apple"] for s in sets)
    apple = sets[0].pictures[1]
    assert apple.shape == (32, 32, 3)
    assert apple[0, 0].tolist() == [255, 255, 255]
    assert apple[16, 16].tolist() == [255, 0, 0]
    pizza = sets[0].pictures[0]
    assert pizza[24, 24].tolist() == [255, 255, 255]  # a larger view box: the square is smaller


def test_finished_files_are_read_and_not_built_again(packages: Path) -> None:
    built = emoji_data.build(packages, size_px=32)
    (packages / "fluent-32.safetensors").unlink()
    kept = (packages / "noto-32.safetensors").stat().st_mtime_ns
    again = emoji_data.build(packages, size_px=32)
    assert (packages / "noto-32.safetensors").stat().st_mtime_ns == kept
    for a, b in zip(built, again, strict=True):
        np.testing.assert_array_equal(a.pictures, b.pictures)
    assert emoji_data.load(packages, size_px=32)[1].names == built[1].names


def test_a_damaged_shard_is_built_again(packages: Path) -> None:
    emoji_data.build(packages, size_px=32)
    shard = packages / "flat-32.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InvalidData, match=r"flat-32\.safetensors is damaged"):
        emoji_data.load(packages, size_px=32)
    assert len(emoji_data.build(packages, size_px=32)) == 4
    assert emoji_data.load(packages, size_px=32)[2].names == ["pizza", "red-apple"]


def test_a_package_that_was_tampered_with_is_refused(packages: Path) -> None:
    archive = packages / "packages" / SOURCES[3].archive
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(InvalidData, match=r"has sha256 \w+, not "):
        emoji_data.build(packages, size_px=32)


def test_a_missing_data_set_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"sidestep data emoji --out \S+ --size 128$"):
        emoji_data.load(tmp_path, size_px=128)


@pytest.mark.parametrize("size_px", [15, 513])
def test_a_size_out_of_bounds_is_refused(tmp_path: Path, size_px: int) -> None:
    with pytest.raises(InvalidData, match="between 16 and 512"):
        emoji_data.build(tmp_path, size_px=size_px)


def test_repeats_are_left_out() -> None:
    names = ["red-apple", "one-oclock", "one-thirty", "ninja-dark-skin-tone", "flag-italy"]
    assert kept_names(names, set(names) - {"flag-italy"}) == ["red-apple"]


def test_captions_are_words() -> None:
    assert styled(caption("red-apple"), "noto") == "red apple, noto"


@pytest.mark.slow
def test_the_real_packages_give_the_real_set(tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    sets = emoji_data.build(tmp_path)
    assert sum(len(s.names) for s in sets) == 4017
    for emoji_set in sets:
        assert emoji_set.pictures.shape == (len(emoji_set.names), 64, 64, 3)
        assert {"red-apple", "octopus", "fire-engine", "soccer-ball"} <= set(emoji_set.names)
        flat = emoji_set.pictures.reshape(len(emoji_set.names), -1).std(axis=1)
        assert flat.min() > 5, emoji_set.names[int(flat.argmin())]  # no picture is empty
