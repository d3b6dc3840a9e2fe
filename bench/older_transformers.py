"""A model folder as transformers 4 reads it, which some peers still need.

transformers 5 writes a CLIP text encoder's weights without the prefix `text_model.`; version 4 does
not know those names, and silently draws random weights in their place.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

PREFIX = "text_model."
WEIGHTS = Path("text_encoder") / "model.safetensors"


def readable(model: Path, scratch: Path) -> Path:
    """Return the folder itself, or a copy in `scratch` whose names transformers 4 knows."""
    from safetensors.numpy import load_file, save_file

    if int(metadata.version("transformers").split(".")[0]) >= 5:
        return model
    weights = load_file(model / WEIGHTS)
    if all(name.startswith(PREFIX) for name in weights):
        return model
    copy = scratch / "model"
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("onnx*", "openvino*", "teacher"))
    renamed = {PREFIX + name.removeprefix(PREFIX): value for name, value in weights.items()}
    save_file(renamed, copy / WEIGHTS, metadata={"format": "pt"})
    return copy
