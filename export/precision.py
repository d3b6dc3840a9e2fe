"""Put a generator into fp16, leaving in fp32 what would overflow.

A network is run in fp32 on the certificate's prompts, and the largest value that each of its
operators makes is recorded (`activation_maxima`). Where one exceeds half of what fp16 can hold,
the smallest module around it whose own inputs and outputs stay below keeps fp32 arithmetic
(`modules_to_keep`): the attention whose logits overflow, or all of a decoder whose residual
stream does. ONNX Runtime computes fp16 graphs in fp32 on a CPU, so that it cannot show an
overflow; `Rounded` shows one by rounding what every operator makes to fp16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from sidestep.engines.contract import GeneratorSpec
from sidestep.errors import CertificateFailed

LIMIT = 32768.0  # half of the range of fp16, for prompts and seeds that were not run
_MASKED = 1e30  # attention masks hold the most negative number of their type


@dataclass
class Activations:
    """Largest absolute values of a run: made inside of each module, and on its way in or out."""

    inside: dict[str, float] = field(default_factory=dict)
    boundary: dict[str, float] = field(default_factory=dict)

    @property
    def largest(self) -> tuple[str, float]:
        """The module in which the largest value was made, and the value."""
        return max(self.inside.items(), key=lambda item: item[1])


def activation_maxima(module: nn.Module, ids: Tensor, noise: Tensor) -> Activations:
    """Run a module in fp32, one row at a time, and record what its operators make, masks aside."""
    seen = Activations()
    with (
        _Path(module, seen.boundary) as path,
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        _Each(lambda value: _record(seen.inside, path.now, value)),
    ):
        for row in range(len(ids)):
            module(ids[row : row + 1], noise[row : row + 1])
    return seen


def modules_to_keep(seen: Activations, limit: float = LIMIT) -> list[str]:
    """Name the smallest modules that hold every value above `limit` and neither take nor give one.

    Raises CertificateFailed where that is the whole generator.
    """
    kept = set()
    for name, value in seen.inside.items():
        if value <= limit:
            continue
        while name and (name not in seen.boundary or seen.boundary[name] > limit):
            name = name.rpartition(".")[0]
        if not name:
            raise CertificateFailed(
                f"activations reach {value:.0f} between the networks, too large for fp16; "
                "export with --precision fp32"
            )
        kept.add(name)
    return sorted(
        name for name in kept if not any(_is_within(name, other) for other in kept - {name})
    )


def to_half(module: nn.Module, kept: list[str]) -> None:
    """Cast a module to fp16 in place, except the `kept` ones, which cast what goes in and out.

    Modules with `in_fp32` are left alone: they cast by themselves.
    """
    full = [*kept, *_in_fp32(module)]
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and not any(_is_within(name, part) for part in full):
            tensor.data = tensor.data.half()
    for name in kept:
        part = module.get_submodule(name)
        part.register_forward_pre_hook(_upcast, with_kwargs=True)
        part.register_forward_hook(_downcast)


class Rounded:
    """An engine that draws as fp16 does: every operator's result is rounded to fp16.

    The sums within an operator stay in fp32, as in the tensor cores of a GPU. Values that fp16
    cannot hold become infinite.
    """

    def __init__(self, module: nn.Module, kept: list[str], spec: GeneratorSpec) -> None:
        """Round the weights of `module`, which is in fp32, in place, the kept ones aside."""
        self._module, self.spec = module, spec
        self._kept = [*kept, *_in_fp32(module)]
        for name, weight in self._module.named_parameters():
            if not any(_is_within(name, part) for part in self._kept):
                weight.data = weight.data.half().float()

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        unet: Any = self._module.unet
        with (
            unet.register_forward_pre_hook(_half_noise),
            _Path(self._module, {}) as path,
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
        ):

            def rounded(value: Tensor) -> Tensor:
                if any(_is_within(path.now, part) for part in self._kept):
                    return value
                return value.half().float()

            with _Each(rounded):
                pixels = self._module(torch.from_numpy(input_ids), torch.from_numpy(noise))
        drawn: NDArray[np.uint8] = pixels.numpy()
        return drawn


class _Each(TorchDispatchMode):
    """Pass every fp32 result of every operator through a function; None keeps it."""

    def __init__(self, change: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._change = change

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result

        def changed(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.dtype != torch.float32:
                return value
            new = self._change(value)
            return value if new is None else new

        with torch.utils._python_dispatch._disable_current_modes():
            return tree_map(changed, result)


class _Path:
    """Follow which module is running, and record the values on its boundary."""

    def __init__(self, module: nn.Module, boundary: dict[str, float]) -> None:
        self._module, self._boundary = module, boundary
        self._running: list[str] = []
        self._hooks: list[Any] = []

    @property
    def now(self) -> str:
        """The dotted name of the innermost module that is running."""
        return self._running[-1] if self._running else ""

    def __enter__(self) -> _Path:
        for name, part in self._module.named_modules():
            self._hooks.append(part.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            self._hooks.append(part.register_forward_hook(self._leave(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, name: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            self._running.append(name)
            for value in tree_leaves((args, kwargs)):
                _record(self._boundary, name, value)

        return hook

    def _leave(self, name: str) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            for value in tree_leaves(output):
                _record(self._boundary, name, value)
            self._running.pop()

        return hook


def _record(maxima: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        with torch.utils._python_dispatch._disable_current_modes():
            least, most = torch.aminmax(value.detach())  # one pass, and no copy
            largest = max(-float(least), float(most))
            if not largest < _MASKED:
                sizes = value.detach().abs()
                largest = float(sizes.where(sizes < _MASKED, 0).max())
        maxima[name] = max(maxima.get(name, 0.0), largest)


def _in_fp32(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if getattr(part, "in_fp32", False)]


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _half_noise(_: nn.Module, args: Any) -> Any:
    return (args[0].half().float(), *args[1:])


def _upcast(_: nn.Module, args: Any, kwargs: Any) -> Any:
    return _cast(args, torch.float16, torch.float32), _cast(kwargs, torch.float16, torch.float32)


def _downcast(_: nn.Module, args: Any, output: Any) -> Any:
    return _cast(output, torch.float32, torch.float16)


def _cast(values: Any, old: torch.dtype, new: torch.dtype) -> Any:
    return tree_map(lambda v: v.to(new) if isinstance(v, Tensor) and v.dtype == old else v, values)
