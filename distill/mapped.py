"""A tensor of a file, mapped into memory instead of read."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidestep.errors import InvalidTraining


def map_tensor(path: Path, name: str) -> Tensor:
    """Map one tensor of a safetensors file; raises InvalidTraining naming a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except SafetensorError as error:
        raise InvalidTraining(f"{path} is damaged ({error}); delete it") from error
    return tensor
