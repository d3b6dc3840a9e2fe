"""The whole state of a training run in one safetensors file, written atomically.

Tensors are named `module/…` and `optimizer/…`; the step and the run's fingerprint are metadata.
Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from sidestep.errors import InvalidTraining
from sidestep.files import atomic_path


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on exactly where it stopped.

    `options` is the run's configuration; resuming with another one is an error, because the
    result would belong to neither.
    """

    path: Path
    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    options: Mapping[str, Any]

    def save(self, step: int) -> None:
        """Write every module and optimizer; the previous file stays until this one is whole."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            for key, value in module.state_dict().items():
                tensors[f"module/{name}/{key}"] = value
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value)
        metadata = {"step": str(step), "options": json.dumps(dict(self.options), sort_keys=True)}
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        with atomic_path(self.path) as temporary:
            save_file(contiguous, temporary, metadata=metadata)

    def load(self) -> int:
        """Restore every module and optimizer and return the step; 0 where nothing was saved.

        Raises InvalidTraining if the file is damaged or belongs to another configuration.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                self._check_options(json.loads(metadata["options"]))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise InvalidTraining(f"{self.path} is damaged ({error}); delete it") from error
        for name, module in self.modules.items():
            module.load_state_dict(_under(tensors, f"module/{name}/"))
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer/{name}/").items():
                index, field = key.split("/", 1)
                state.setdefault(int(index), {})[field] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        return int(metadata["step"])

    def _check_options(self, saved: dict[str, Any]) -> None:
        mine = json.loads(json.dumps(dict(self.options)))
        changed = sorted(key for key in {*saved, *mine} if saved.get(key) != mine.get(key))
        if changed:
            what = ", ".join(f"{key} ({saved.get(key)} -> {mine.get(key)})" for key in changed)
            raise InvalidTraining(
                f"{self.path} belongs to a run with other options: {what}; choose another --out"
            )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
