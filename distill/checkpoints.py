"""The whole state of a training run in one safetensors file, written atomically.

Tensors are named `module/…` and `optimizer/…`; the step and the run's identity are metadata.
Nothing is pickled, and the number of processes leaves no trace: shards are gathered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from distill.processes import current
from distill.shards import like, whole
from sidestep.errors import InvalidTraining
from sidestep.files import atomic_path

_NAME = re.compile(r"state-(\d+)\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on exactly where it stopped, in `folder/state-000050.safetensors`.

    `options` is the run's configuration; resuming with another one is an error, because the
    result would belong to neither. The `keep` newest files are kept.
    """

    folder: Path
    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    options: Mapping[str, Any]
    scalers: Mapping[str, GradScaler] | None = None
    keep: int = 1

    def newest(self) -> Path | None:
        """Find the newest file; None before the first."""
        return _newest(self.folder)

    def save(self, step: int, *, spent: float = 0.0) -> None:
        """Write everything; older files stay until this one is whole. All processes call it.

        spent: seconds that the run took so far
        Raises InvalidTraining if the file cannot be written.
        """
        contiguous = self._gathered()
        if not current().writes:
            return
        metadata = {
            "step": str(step),
            "spent": str(spent),
            "options": json.dumps(dict(self.options), sort_keys=True),
        }
        path = self.folder / f"state-{step:06d}.safetensors"
        try:
            with atomic_path(path) as temporary:
                save_file(contiguous, temporary, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise InvalidTraining(
                f"{path} cannot be written ({error}); free some space and run the same command "
                f"again: it goes on from {self.newest() or 'the start'}"
            ) from error
        files = _by_step(self.folder)
        for old in sorted(files)[: -self.keep]:
            files[old].unlink()

    def spent(self) -> float:
        """Read the seconds that the run took up to the newest file."""
        path = self.newest()
        if path is None:
            return 0.0
        with safe_open(path, framework="pt") as file:
            return float((file.metadata() or {}).get("spent", 0.0))

    def load(self) -> int:
        """Restore everything from the newest file and return its step; 0 where there is none.

        Raises InvalidTraining if the file is damaged or belongs to another configuration.
        """
        path = self.newest()
        if path is None:
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                _check_options(path, json.loads(metadata["options"]), self.options)
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self._restore(tensors)
        except (torch.OutOfMemoryError, dist.DistError):  # RuntimeErrors, but not the file's fault
            raise
        except (SafetensorError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            raise InvalidTraining(f"{path} is damaged ({error}); delete it") from error
        return int(metadata["step"])

    def _gathered(self) -> dict[str, Tensor]:
        """Gather one tensor after another, as no GPU has room for all, on the CPU that writes."""
        kept = {}
        for key, value in self._tensors():
            gathered = whole(value.detach())  # by all processes together
            if current().writes:
                kept[key] = gathered.cpu().contiguous()
            del gathered  # before the next is gathered
        return kept

    def _tensors(self) -> list[tuple[str, Tensor]]:
        found = [
            (f"module/{name}/{key}", value)
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        ]
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    found.append((f"optimizer/{name}/{index}/{key}", torch.as_tensor(value)))
        for name, scaler in (self.scalers or {}).items():
            for key, number in scaler.state_dict().items():
                found.append((f"scaler/{name}/{key}", torch.as_tensor(number)))
        return found

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, module in self.modules.items():
            mine = module.state_dict()
            saved = _under(tensors, f"module/{name}/")
            module.load_state_dict({key: like(saved[key], value) for key, value in mine.items()})
        for name, optimizer in self.optimizers.items():
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer/{name}/").items():
                index, field = key.split("/", 1)
                same_shape = value.shape == weights[int(index)].shape
                placed = like(value, weights[int(index)]) if same_shape else value
                state.setdefault(int(index), {})[field] = placed
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        for name, scaler in (self.scalers or {}).items():
            saved = _under(tensors, f"scaler/{name}/")
            scaler.load_state_dict({key: value.item() for key, value in saved.items()})


def kept_options(folder: Path) -> dict[str, Any]:
    """Read what a run's newest checkpoint belongs to; empty before the first.

    Raises InvalidTraining if the file is damaged.
    """
    path = _newest(folder)
    if path is None:
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            options: dict[str, Any] = json.loads((file.metadata() or {})["options"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InvalidTraining(f"{path} is damaged ({error}); delete it") from error
    return options


def check_kept(folder: Path, options: Mapping[str, Any], *, free: Set[str] = frozenset()) -> None:
    """Raise InvalidTraining where a run's newest checkpoint, if there is one, has other options.

    free: those that may differ
    """
    if path := _newest(folder):
        kept = kept_options(folder)
        _check_options(path, kept, {**options, **{key: kept.get(key) for key in free}})


def last_step(folder: Path) -> int:
    """Return the step of a run's newest checkpoint; 0 before the first."""
    return max(_by_step(folder), default=0)


def _check_options(path: Path, saved: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    mine = json.loads(json.dumps(dict(options)))
    changed = sorted(key for key in {*saved, *mine} if saved.get(key) != mine.get(key))
    if changed:
        what = ", ".join(f"{key} ({saved.get(key)} -> {mine.get(key)})" for key in changed)
        raise InvalidTraining(
            f"{path} belongs to a run with other options: {what}; choose another --out"
        )


def _newest(folder: Path) -> Path | None:
    files = _by_step(folder)
    return files[max(files)] if files else None


def _by_step(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    names = {path: _NAME.fullmatch(path.name) for path in folder.iterdir()}
    return {int(match[1]): path for path, match in names.items() if match}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
