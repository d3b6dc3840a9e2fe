"""One engine on each of several GPUs, called as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import Engine
from sidestep.engines.cuda import select_device
from sidestep.engines.load import load_engine
from sidestep.errors import EngineMismatch, InvalidRequest
from sidestep.model_folder import ModelFolder


class SeveralDevices:
    """Gives each call the device that has been idle the longest.

    As many calls may run at the same time as on all devices together, one thread each. The
    pictures do not depend on the device: the specs are the same, and so are the weights.
    """

    def __init__(
        self, engines: Sequence[tuple[int, Engine]], select: Callable[[int], None] = select_device
    ) -> None:
        """Join engines, each with its device's number; raises EngineMismatch if their specs differ.

        select: makes a device the calling thread's own, as CUDA wants it before each call
        """
        self._select = select
        (_, first), *others = engines
        for number, engine in others:
            if engine.spec != first.spec:
                raise EngineMismatch(
                    f"the engine of device {number}",
                    plan=str(first.spec),
                    here=str(engine.spec),
                    mend="sidestep export, once for each kind of GPU",
                )
        calls = sum(engine.spec.workers for _, engine in engines)
        self.spec = replace(first.spec, workers=calls)
        self._idle: SimpleQueue[tuple[int, Engine]] = SimpleQueue()
        for _ in range(first.spec.workers):
            for device in engines:
                self._idle.put(device)

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        number, engine = self._idle.get()
        try:
            self._select(number)
            return engine(input_ids, noise)
        finally:
            self._idle.put((number, engine))


def load_on_devices(folder: ModelFolder, name: str, devices: Sequence[int]) -> Engine:
    """Open `folder` on each of these GPUs, the first alone if there are none.

    Raises InvalidRequest if the engine runs on no GPU, and as `load_engine` does.
    """
    if not devices:
        return load_engine(folder, name)
    engines: list[tuple[int, Engine]] = []
    for number in devices:
        if name != "fake":
            select_device(number)
        engine = load_engine(folder, name)
        if "cpu" in engine.spec.name or engine.spec.name.startswith("openvino"):
            message = f"devices are GPUs, and the engine {engine.spec.name} runs on none"
            raise InvalidRequest(message, field="devices")
        engines.append((number, engine))
    return SeveralDevices(engines, (lambda _: None) if name == "fake" else select_device)
