"""Put the embedded model into the wheel, as `sidestep/_models/emoji`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODEL = Path("models/emoji")
LEFT_OUT = ("engines", "teacher")  # built on this machine; needed for training alone


class EmbeddedModel(BuildHookInterface[Any]):
    """Include `models/emoji` where it exists, without the engines built on this machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the model's files, one by one; an editable install reads them in the checkout."""
        folder = Path(self.root) / MODEL
        if version == "editable" or not folder.is_dir():
            return
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder)
            if file.is_file() and name.parts[0] not in LEFT_OUT:
                build_data["force_include"][str(file)] = f"sidestep/_models/emoji/{name.as_posix()}"
