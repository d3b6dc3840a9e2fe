"""What a person sees of a long training run: a bar, a log of losses, grids of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from sidestep.files import atomic_path


class Progress:
    """A progress bar over the steps left, which also appends the losses to `log.jsonl`.

    Where it is not `shown`, it only counts.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        first: int,
        last: int,
        log_every: int,
        shown: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._shown = shown
        self._log = folder / "log.jsonl"
        self._name, self._first, self._last, self._every = name, first, last, log_every

    def __iter__(self) -> Iterator[int]:
        """Yield each step's number, counted from 1."""
        steps = range(self._first + 1, self._last + 1)
        self._bar = tqdm(
            steps,
            self._name,
            initial=self._first,
            total=self._last,
            unit="step",
            disable=not self._shown,
        )
        yield from self._bar

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Show and log the losses of this step, every `log_every` steps and at the end."""
        if not self._shown or (step % self._every and step != self._last):
            return
        self._bar.set_postfix({key: f"{value:.4g}" for key, value in values.items()})
        with self._log.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def save_grid(path: Path, rows: Sequence[Sequence[NDArray[np.uint8]]], *, gap_px: int = 2) -> None:
    """Write rows of equally large pictures [H, W, 3] as one PNG on white."""
    height, width, _ = rows[0][0].shape
    columns = max(map(len, rows))
    size = (columns * (width + gap_px) - gap_px, len(rows) * (height + gap_px) - gap_px)
    page = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(Image.fromarray(picture), (x * (width + gap_px), y * (height + gap_px)))
    with atomic_path(path) as temporary:
        page.save(temporary, "PNG")
