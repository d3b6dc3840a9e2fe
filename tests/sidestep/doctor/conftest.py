"""Packages that are installed in name, and a copy of the embedded model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sidestep.model_folder import ModelFolder

EMBEDDED = Path(__file__).parents[3] / "models" / "emoji"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package's metadata, found before that of a real package of the name."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def write(name: str, version: str, *lines: str) -> None:
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        head = ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}")
        (folder / "METADATA").write_text("\n".join([*head, *lines]) + "\n")

    return write


@pytest.fixture
def emoji(tmp_path: Path) -> ModelFolder:
    """The embedded model, to damage."""
    return ModelFolder.open(shutil.copytree(EMBEDDED, tmp_path / "models" / "emoji"))
