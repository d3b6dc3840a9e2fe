"""What was computed of pictures is kept beside them, until one of them changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sidestep.files import atomic_path

Numbers = NDArray[np.float32]


def kept(files: Sequence[Path], identity: str, compute: Callable[[], Numbers]) -> Numbers:
    """Return numbers [N, ...] of pictures of one folder, from a file beside it if that is fit.

    It is bound to the pictures' names, sizes and times and to `identity`, which names all else that
    the numbers depend on.
    """
    folder = files[0].parent
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(repr((identity, stamps)).encode()).hexdigest()[:32]
    path = folder.parent / f".features-{folder.name}" / f"{key}.safetensors"
    try:
        return load_file(path)["features"]
    except (FileNotFoundError, KeyError, SafetensorError):  # absent or damaged
        numbers = compute().astype(np.float32)
    with atomic_path(path) as temporary:
        save_file({"features": numbers}, temporary)
    return numbers
