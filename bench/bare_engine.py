"""An engine alone: how long its calls take, and the most that it draws."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from sidestep.engines.contract import Engine
from sidestep.engines.load import load_engine
from sidestep.model_folder import ModelFolder

CALLS = 24  # of each batch size, on each worker


@dataclass(frozen=True)
class BareEngine:
    """Measured calls, with as many under way as the engine has workers.

    seconds: of a call, by batch size
    """

    name: str
    engine: Engine
    seconds: dict[int, float]

    @classmethod
    def measure(cls, name: str) -> BareEngine:
        """Open an engine of the embedded model by name, and time every bucket."""
        engine = load_engine(ModelFolder.open(), name)
        bare = cls(name, engine, {})
        with ThreadPoolExecutor(engine.spec.workers) as pool:
            for size in engine.spec.buckets:
                calls = [size] * (CALLS * engine.spec.workers)
                times = list(pool.map(bare.timed_call, calls))
                bare.seconds[size] = fmean(times[len(times) // 4 :])
        return bare

    @property
    def workers(self) -> int:
        """How many calls may run at the same time."""
        return self.engine.spec.workers

    @property
    def best_batch(self) -> int:
        """The smallest batch that draws the most pictures per second, within 2%."""
        rates = {size: size / seconds for size, seconds in self.seconds.items()}
        return min(size for size, rate in rates.items() if rate > 0.98 * max(rates.values()))

    @property
    def per_second(self) -> float:
        """Pictures per second of all workers at the best batch."""
        return self.workers * self.best_batch / self.seconds[self.best_batch]

    def call_s(self, size: int) -> float:
        """Seconds of a call, as measured; between two buckets, on the line between them."""
        return float(np.interp(size, list(self.seconds), list(self.seconds.values())))

    def timed_call(self, size: int) -> float:
        """Call the engine once; seconds."""
        spec = self.engine.spec
        ids = np.zeros((size, spec.tokens), np.int64)
        noise = np.zeros((size, *spec.noise_shape), np.float32)
        began = time.perf_counter()
        self.engine(ids, noise)
        return time.perf_counter() - began

    def __str__(self) -> str:
        """Tell the figures that others are measured against."""
        calls = ", ".join(f"{size}: {1e3 * s:.1f}" for size, s in self.seconds.items())
        best = f"{self.per_second:.1f} pictures/s in batches of {self.best_batch}"
        return f"{self.name}, {self.workers} workers, ms by batch size {calls}; {best}"
