"""Pictures that were drawn once are not drawn again, also after a stop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from sidestep.files import atomic_path

FORMAT = 2  # of the stored files; those of another are not found
Draw = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]


class PictureStore:
    """A folder of batches of pictures, named by a hash of all that they depend on.

    Batches are part of that: numbers may differ in the last place with the size of a batch.
    """

    def __init__(self, folder: Path, *, batch: int = 32) -> None:
        """Keep pictures in `folder`, which may be deleted at any time."""
        self.folder = folder
        self.batch = batch

    def pictures(
        self, identity: str, prompts: Sequence[str], seeds: Sequence[int], draw: Draw
    ) -> NDArray[np.uint8]:
        """Return one picture per prompt and seed [N, H, W, 3], drawing those that are not stored.

        identity: names who draws, and how, without prompts and seeds
        """
        starts = range(0, len(prompts), self.batch)
        with tqdm(total=len(prompts), unit="picture", desc=identity.split(":")[0]) as bar:
            parts = []
            for start in starts:
                rows = slice(start, start + self.batch)
                parts.append(self._batch(identity, list(prompts[rows]), list(seeds[rows]), draw))
                bar.update(len(parts[-1]))
        return np.concatenate(parts)

    def _batch(
        self, identity: str, prompts: list[str], seeds: list[int], draw: Draw
    ) -> NDArray[np.uint8]:
        key = hashlib.sha256(json.dumps([FORMAT, identity, prompts, seeds]).encode()).hexdigest()
        path = self.folder / key[:2] / f"{key}.safetensors"
        try:
            return load_file(path)["pictures"]
        except (FileNotFoundError, KeyError, SafetensorError):  # absent or damaged
            # A view with other strides would be written in the order of its memory.
            drawn = np.ascontiguousarray(draw(prompts, seeds))
        with atomic_path(path) as temporary:
            save_file({"pictures": drawn}, temporary)
        return drawn
