"""The parent's side of a contender: starts its process, gives orders, reads answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sidestep import errors
from sidestep.errors import BenchmarkFailed, SidestepError
from sidestep.model_folder import ModelFolder

ROOT = Path(__file__).parents[1]
_CODE = "import sys; sys.path.append({root!r}); from bench.worker import main; main()"
_LIBRARIES_OWN = ("OMP_", "KMP_", "GOMP_")  # each contender's threads wait as its library likes


@dataclass(frozen=True)
class Entry:
    """Who takes part: `engine:NAME` of ours or a peer, in which interpreter."""

    kind: str
    python: str = sys.executable

    @property
    def is_ours(self) -> bool:
        """Whether it is one of our engines."""
        return self.kind.startswith("engine:")


@dataclass(frozen=True)
class Task:
    """What all contenders draw: a model folder, prompts [B] and noise [B, 4, h, w]."""

    folder: ModelFolder
    prompts: Sequence[str]
    noise: NDArray[np.float32]


@dataclass
class Contender:
    """A running contender; leaving the block ends its process.

    name, precision: as it tells; threads: the counts to try, or one None
    cold: seconds from the process's start to its first picture, and their parts
    versions: of the packages in its own environment that its speed depends on
    """

    entry: Entry
    name: str = ""
    precision: str = "fp32"
    threads: tuple[int | None, ...] = (None,)
    cold: dict[str, float | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    _process: Any = None
    _folder: Any = None
    _errors: Any = None

    def start(self, task: Task) -> Self:
        """Start the process and wait for its first picture.

        Raises the error that our engine had there, and BenchmarkFailed for a peer's.
        """
        self._folder = tempfile.TemporaryDirectory()
        noise = Path(self._folder.name) / "noise.npy"
        np.save(noise, task.noise)
        told = {
            "contender": self.entry.kind,
            "model": str(task.folder.path.absolute()),
            "decoder": task.folder.decoder,
            "prompts": list(task.prompts),
            "noise": str(noise),
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_LIBRARIES_OWN)}
        self._errors = (Path(self._folder.name) / "stderr").open("w+b")
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [self.entry.python, "-c", _CODE.format(root=str(ROOT)), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=kept,
            text=True,
        )
        answer = self._answer(self._opening_error)
        cold_s = round(time.perf_counter() - began - (answer["build_s"] or 0.0), 3)
        self.name, self.precision = answer["name"], answer["precision"]
        self.threads = tuple(answer["threads"]) or (None,)
        self.versions = answer["versions"]
        parts = {name: answer[name] for name in ("build_s", "open_s", "first_call_s")}
        self.cold = {"cold_start_s": cold_s, **parts}
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(BrokenPipeError):  # an order that a dead process never read
                self._process.stdin.close()
            if self._process.poll() is None:
                self._process.terminate()
            self._process.wait()
            self._process.stdout.close()
        if self._errors is not None:
            self._errors.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._errors = self._folder = None

    @property
    def pid(self) -> int:
        """The process's."""
        return int(self._process.pid)

    def order(self, do: str, **details: Any) -> dict[str, Any]:
        """Give one order and wait for its answer; raises BenchmarkFailed for whatever fails there.

        A GPU's fault too, so that one contender's end costs what it was asked for and no more.
        """
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are read below
        return self._answer(self._failure)

    def pictures(self, batch: int) -> NDArray[np.uint8]:
        """Draw a batch; [B, H, W, 3]."""
        file = Path(self._folder.name) / "pictures.npy"
        self.order("pictures", batch=batch, file=str(file))
        pixels: NDArray[np.uint8] = np.load(file)
        return pixels

    def _answer(self, error_of: Callable[[str, str], SidestepError]) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace").strip().splitlines()
            last = words[-1] if words else f"exit code {self._process.returncode}"
            raise BenchmarkFailed(f"{self.entry.kind} died: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise error_of(answer["kind"], " ".join(answer["error"].split()))
        return answer

    def _failure(self, kind: str, message: str) -> SidestepError:
        return BenchmarkFailed(f"{self.entry.kind}: {kind}: {message[:400]}")

    def _opening_error(self, kind: str, message: str) -> SidestepError:
        """Turn what the process told into the error that it was there, where one text makes it."""
        known = getattr(errors, kind, None)
        if self.entry.is_ours and known in (
            errors.InvalidModel,
            errors.InvalidRequest,
            errors.NoGpu,
        ):
            error: SidestepError = known(message)
            return error
        return self._failure(kind, message)
