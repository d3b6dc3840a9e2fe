"""What a person sees of a long training run: a bar, a log of losses, grids of pictures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from distill.processes import Processes, current
from sidestep.files import atomic_path

SAVE_EVERY_S = 60.0
GAP_PX = 2  # between the pictures of a grid


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
        self._seconds, self._began, self.spent = 0.0, time.monotonic(), 0.0
        self._together = Processes()
        self._saved, self.step, self.final = time.monotonic(), first, False

    def within(
        self, seconds: float, *, spent: float, together: Processes | None = None
    ) -> Progress:
        """End after `seconds` where `last` steps take longer; `spent` of them are over already.

        together: those that train in step with this one; the first one's clock counts
        """
        self._seconds, self._began, self.spent = seconds, time.monotonic() - spent, spent
        self._together = together or Processes()
        return self

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
            over = self._first >= self._last or 0 < self._seconds <= self.spent
            while not (over or self.final):
                self.step += 1
                self._look_at_the_clock()
                late = 0 < self._seconds <= self.spent
                self.final = late or self.step == self._last
                yield self.step
                self._bar.total = self.last * each
                self._bar.update(each)

    def _look_at_the_clock(self) -> None:
        """Tell how long this run took up to this step, in all its parts."""
        self.spent = time.monotonic() - self._began
        if self._seconds:  # steps and rates hang on it: it must be the same in all processes
            self.spent = self._together.first(self.spent)

    @property
    def last(self) -> int:
        """The last step, as far as is known: where time is the bound, from the pace so far."""
        if self.final:
            return self.step
        taken = self.step - 1
        if not self._seconds or taken <= 0:
            return self._last
        return min(self._last, max(self.step, int(taken * self._seconds / self.spent)))

    def due(self, step: int) -> bool:
        """Whether `report` shows this step: every `log_every` steps and at the end."""
        return step % self._every == 0 or self.final

    def save_due(self) -> bool:
        """Whether this step's state is to be saved: the last's, and one each `SAVE_EVERY_S`."""
        if not self.final and time.monotonic() - self._saved < SAVE_EVERY_S:
            return False
        self._saved = time.monotonic()
        return True

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


def logged_losses(folder: Path) -> dict[str, tuple[float, float]]:
    """Return the first and the last value of every figure in a run's log, memory aside."""
    told: dict[str, tuple[float, float]] = {}
    for values in _logged(folder):
        for name, value in values.items():
            if name not in {"step", "gib"}:
                told[name] = (told.get(name, (value,))[0], value)
    return told


def widest_spread(folder: Path, last: int) -> float:
    """Return the widest spread that a run's log tells of up to the step `last`; 0 without one.

    What a run logged beyond, before it was set back, counts as little as what it logged again.
    """
    told = {
        values["step"]: values["spread"]
        for values in _logged(folder)
        if "spread" in values and values["step"] <= last
    }
    return max(filter(math.isfinite, told.values()), default=0.0)


def _logged(folder: Path) -> Iterator[dict[str, float]]:
    """Read a log's lines, without those that a killed process or a full disk left torn."""
    if not (log := folder / "log.jsonl").is_file():
        return
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(values, dict):
            yield values


def memory_gib() -> float:
    """Return the memory in use: on a GPU the most so far, else this process's now."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    return float(psutil.Process().memory_info().rss / 2**30)


def save_grid(
    path: Path,
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    *,
    labels: Sequence[str] = (),
) -> None:
    """Write rows of equally large pictures [H, W, 3] as one PNG on white, each after its label."""
    height, width, _ = rows[0][0].shape
    columns = max(map(len, rows))
    font = ImageFont.load_default(size=max(10.0, height / 5))
    left = round(max((font.getlength(f"{label}  ") for label in labels), default=0))
    size = (left + columns * (width + GAP_PX) - GAP_PX, len(rows) * (height + GAP_PX) - GAP_PX)
    page = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(
                Image.fromarray(picture), (left + x * (width + GAP_PX), y * (height + GAP_PX))
            )
    for y, label in enumerate(labels):
        middle = y * (height + GAP_PX) + height // 2
        ImageDraw.Draw(page).text((0, middle), label, fill="black", font=font, anchor="lm")
    with atomic_path(path) as temporary:
        page.save(temporary, "PNG")
