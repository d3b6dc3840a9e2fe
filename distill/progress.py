"""What a person sees of a long training run: a bar, a log of losses, grids of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from distill.processes import current
from sidestep.files import atomic_path


class Progress:
    """A progress bar over the steps left, which also logs what is reported.

    To `log.jsonl` and, for `tensorboard --logdir FOLDER`, to an event file. In all
    processes but the one that writes it only counts.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        first: int,
        last: int,
        log_every: int,
        images: int = 0,
    ) -> None:
        """Open the log; with `images` per step the bar counts those and its rate is images/s."""
        folder.mkdir(parents=True, exist_ok=True)
        self._shown = current().writes
        self._folder, self._images = folder, images
        self._name, self._first, self._last, self._every = name, first, last, log_every

    def __iter__(self) -> Iterator[int]:
        """Yield each step's number, counted from 1."""
        each = self._images or 1
        unit = "img" if self._images else "step"
        with (
            tqdm(
                desc=self._name,
                initial=self._first * each,
                total=self._last * each,
                unit=unit,
                disable=not self._shown,
            ) as self._bar,
            SummaryWriter(str(self._folder)) if self._shown else nullcontext() as self._board,
        ):
            for step in range(self._first + 1, self._last + 1):
                yield step
                self._bar.update(each)

    def due(self, step: int) -> bool:
        """Whether `report` shows this step: every `log_every` steps and at the end."""
        return step % self._every == 0 or step == self._last

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Show and log the numbers of this step, if it is due."""
        if not self._shown or not self.due(step):
            return
        memory = {"gib": memory_gib()} if self._images else {}
        self._bar.set_postfix({key: f"{v:.4g}" for key, v in {**values, **memory}.items()})
        self.log(step, {**values, **memory})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers that are measured now and then, whether or not the step is due."""
        if not self._shown or self._board is None:
            return
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for key, value in values.items():
            self._board.add_scalar(key, value, step)


def memory_gib() -> float:
    """Return the memory in use: on a GPU the most so far, else this process's now."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    return float(psutil.Process().memory_info().rss / 2**30)


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
