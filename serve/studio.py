"""Requests -> pictures: tokenising, noise and encoding in a pool beside the engine's batcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serve.batcher import Batcher, Drawn
from sidestep.errors import ServiceUnavailable
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest, Picture

T = TypeVar("T")
POOL_THREADS = 2


@dataclass(frozen=True)
class _Inputs:
    """What the engine takes for one request, and what of the prompt did not fit."""

    ids: NDArray[np.int64]  # [B, L]
    noise: NDArray[np.float32]  # [B, 4, h, w]
    dropped: str


class Studio:
    """`Generator.generate` for many callers at once; same pictures, batched."""

    def __init__(self, generator: Generator, *, queue_limit: int) -> None:
        """Make a studio around `generator`; start it before use."""
        self.generator = generator
        self.batcher = Batcher(generator.engine, queue_limit=queue_limit)
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="encode")

    async def start(self) -> None:
        """Draw one picture per worker, so that the first request is not the slow one; then open."""
        self.batcher.start()
        warm = [
            self.generate(GenerateRequest(prompt="a", seed=seed))
            for seed in range(self.generator.engine.spec.workers)
        ]
        await asyncio.gather(*warm)

    async def stop(self) -> None:
        """Fail what waits with ServiceUnavailable, finish what is drawn, end all threads."""
        await asyncio.to_thread(self.batcher.stop)
        await asyncio.to_thread(self._pool.shutdown)

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.batcher.ready

    async def generate(self, request: GenerateRequest) -> list[Picture]:
        """Draw all pictures of a request; picture i has seed + i.

        Cancelling it drops the pictures that no engine has begun. Raises ServiceBusy when the
        queue is full and ServiceUnavailable when the service is stopping.
        """
        request = request.with_seed()
        began = asyncio.get_running_loop().time()
        inputs = await self._in_pool(partial(self._prepare, request))
        prepare_ms = 1e3 * (asyncio.get_running_loop().time() - began)
        futures = self.batcher.submit(inputs.ids, inputs.noise)
        tasks = [
            asyncio.ensure_future(self._finish(request, seed, future, prepare_ms))
            for seed, future in zip(request.seeds, futures, strict=True)
        ]
        try:
            pictures = await asyncio.gather(*tasks)
        finally:
            # The futures too: a task that is cancelled before its first step awaits none.
            for task in tasks:
                task.cancel()
            for future in futures:
                future.cancel()
        return [replace(picture, dropped=inputs.dropped) for picture in pictures]

    def _prepare(self, request: GenerateRequest) -> _Inputs:
        """Tokenise once and draw every seed's noise (runs in the pool)."""
        tokens = self.generator.tokenizer.encode(request.prompt)
        ids = np.repeat(tokens.ids[None], request.count, axis=0)
        return _Inputs(ids, self.generator.noise(request.seeds), tokens.dropped)

    async def _finish(
        self,
        request: GenerateRequest,
        seed: int,
        future: asyncio.Future[Drawn],
        prepare_ms: float,
    ) -> Picture:
        """Wait for the pixels and encode them in the pool."""
        drawn = await future
        timings = replace(drawn.timings, queue_ms=drawn.timings.queue_ms + prepare_ms)
        picture = self.generator.picture
        return await self._in_pool(
            partial(picture, request.prompt, seed, drawn.pixels, request.format, timings)
        )

    async def _in_pool(self, call: Callable[[], T]) -> T:
        """Run `call` on a pool thread."""
        try:
            pending = asyncio.get_running_loop().run_in_executor(self._pool, call)
        except RuntimeError as error:  # the pool is shut down
            raise ServiceUnavailable("the service is stopping; try again later") from error
        return await pending
