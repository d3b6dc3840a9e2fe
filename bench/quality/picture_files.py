"""Read a folder's pictures in the order of their names, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.errors import InvalidData

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder; raises InvalidData where there are none or sizes differ."""
    if not folder.is_dir():
        raise InvalidData(f"{folder} is not a folder of pictures")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidData(f"{folder} has no pictures; it must hold {', '.join(sorted(SUFFIXES))}")
    first = _size(files[0])
    for file in files[1:]:
        if (size := _size(file)) != first:
            raise InvalidData(
                f"{folder} mixes sizes: {files[0].name} is {first[0]}x{first[1]}, {file.name} is "
                f"{size[0]}x{size[1]}; give pictures of one size"
            )
    return files


def batches(files: Sequence[Path], *, size_px: int, batch: int) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures [B, size, size, 3]; others are resized (Lanczos), as the paper does."""
    for start in range(0, len(files), batch):
        yield np.stack([_read(file, size_px) for file in files[start : start + batch]])


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidData(f"{file} is not a picture ({error})") from error


def _read(file: Path, size_px: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            shown = image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidData(f"{file} is damaged ({error})") from error
    if shown.size != (size_px, size_px):
        shown = shown.resize((size_px, size_px), Image.Resampling.LANCZOS)
    return np.asarray(shown)
