"""An engine in use: measured at every call, checked when it fails, and opened anew when broken.

B batch  L tokens  4 x h x w latents  H x W pixels
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from serve.moving_mean import MovingMean
from sidestep.engines.contract import Engine, GeneratorSpec

logger = logging.getLogger("sidestep.serve")
WEIGHT_OF_NEWEST = 0.2


class EngineTimes:
    """Moving means of the seconds that one engine call takes, one for each bucket."""

    def __init__(self, spec: GeneratorSpec) -> None:
        """Begin with nothing measured."""
        self._buckets = spec.buckets
        self._means = {size: MovingMean(WEIGHT_OF_NEWEST) for size in spec.buckets}

    def add(self, batch: int, seconds: float) -> None:
        """Count one call."""
        self._means[self._bucket(batch)].add(seconds)

    def seconds(self, batch: int) -> float:
        """Predict a call; 0 for a bucket that was never measured."""
        return self._means[self._bucket(batch)].seconds

    def _bucket(self, batch: int) -> int:
        return next((size for size in self._buckets if size >= batch), self._buckets[-1])


class Device:
    """An engine, its times, and the way to open it again."""

    def __init__(self, engine: Engine, reopen: Callable[[], Engine]) -> None:
        """Wrap `engine`; `reopen` makes another of the same spec and may raise."""
        self._engine, self._reopen = engine, reopen
        self.spec = engine.spec
        self.times = EngineTimes(self.spec)
        self.opened = 1  # how often an engine was opened

    def warm_up(self) -> None:
        """Draw every bucket on every worker at once, so that no caller waits for a first time.

        The largest comes first, twice, because it pays for the memory of all. Raises what the
        engine raises.
        """
        times = EngineTimes(self.spec)

        together = threading.Barrier(self.spec.workers)

        def warm() -> None:
            try:
                self._probe(self.spec.max_batch)
                for size in reversed(self.spec.buckets):
                    together.wait()  # so that of several GPUs each draws every bucket
                    times.add(size, self._probe(size))
            except BaseException:
                together.abort()
                raise

        with ThreadPoolExecutor(self.spec.workers, thread_name_prefix="warm-up") as pool:
            warming = [pool.submit(warm) for _ in range(self.spec.workers)]
        failed = [error for future in warming if (error := future.exception())]
        if failed:  # the others were only told to stop
            raise min(failed, key=lambda error: isinstance(error, threading.BrokenBarrierError))
        self.times = times

    def draw(
        self, ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float]:
        """Draw ids [B, L] and noise [B, 4, h, w]; pixels [B, H, W, 3] and the engine's seconds.

        Raises what the engine raises, and ValueError for pixels of another shape.
        """
        times, began = self.times, time.perf_counter()
        pixels = self._engine(ids, noise)
        engine_s = time.perf_counter() - began
        wanted = (len(ids), *self.spec.image_size, 3)
        if pixels.shape != wanted:
            raise ValueError(f"the engine drew {pixels.shape} instead of {wanted}")
        times.add(len(ids), engine_s)  # and not those of an engine opened meanwhile
        return pixels, engine_s

    def sound(self) -> bool:
        """Tell whether the engine still draws rows that it drew before.

        It tells a bad row, which fails alone, from a broken engine, which fails for everybody.
        """
        try:
            self._probe(1)
        except Exception as error:
            logger.error("the engine is broken", exc_info=error)
            return False
        return True

    def renew(self) -> None:
        """Open the engine anew and warm it up; raises whatever prevents that."""
        self._engine = self._reopen()
        self.warm_up()
        self.opened += 1

    def _probe(self, size: int) -> float:
        """Draw `size` rows of zeros; the engine's seconds."""
        ids = np.zeros((size, self.spec.tokens), dtype=np.int64)
        return self.draw(ids, np.zeros((size, *self.spec.noise_shape), dtype=np.float32))[1]
