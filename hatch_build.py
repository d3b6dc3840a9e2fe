"""Put the embedded models and their judge into the wheel, as `sidestep/_models`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAMES = ("emoji", "emoji-kappa-3", "emoji-kappa-4.5", "judge")
MODELS = tuple(Path("models") / name for name in NAMES)
LEFT_OUT = ("engines", "teacher", "openvino-", "onnx-")  # exports made here; for training alone


class EmbeddedModel(BuildHookInterface[Any]):
    """Include the models where they are, without what was compiled on this machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the models' files, one by one; an editable install reads them in the checkout."""
        if version == "editable":
            return
        for model in MODELS:
            folder = Path(self.root) / model
            for file in sorted(folder.rglob("*")):
                name = file.relative_to(folder)
                if file.is_file() and not name.parts[0].startswith(LEFT_OUT):
                    inside = f"sidestep/_models/{model.name}/{name.as_posix()}"
                    build_data["force_include"][str(file)] = inside
