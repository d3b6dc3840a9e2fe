"""Requests -> pictures: tokenising, noise and encoding in a pool beside the engine's batcher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from serve.batcher import STOPPING, Batcher
from serve.delay import LoopDelay
from serve.device import Device
from serve.lines import Drawn, Job
from serve.metrics import Metrics, ModelMetrics
from serve.newest import Newest
from serve.settings import Settings
from sidestep.errors import ServiceUnavailable
from sidestep.generator import Generator
from sidestep.requests import Encoding, GenerateRequest, Picture

T = TypeVar("T")
POOL_THREADS = 2
WEIGHT_OF_NEWEST = 0.1


class Studio:
    """`Generator.generate` for many callers at once; same pictures, batched."""

    def __init__(
        self, generator: Generator, settings: Settings, metrics: ModelMetrics | None = None
    ) -> None:
        """Make a studio around `generator`; start it before use."""
        self.generator = generator
        self.requests = 0  # under way, counted by whoever asks
        device = Device(generator.engine, generator.reopen)
        self.batcher = Batcher(device, queue_limit=settings.queue_limit)
        self.metrics = metrics or Metrics().of(generator.name)
        self._recipe = settings.recipe
        self._deadline_ms = settings.deadline_ms
        self._newest: Newest[list[Picture]] = Newest()
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="encode")
        self.delay = LoopDelay()
        self._encode_s = 0.0  # moving mean, from pixels to picture

    async def start(self) -> None:
        """Warm the engine up, then open."""
        await asyncio.to_thread(self.batcher.start)
        self.delay.start()
        self.metrics.watch(self.batcher)

    async def stop(self) -> None:
        """Fail what waits with ServiceUnavailable, finish what is drawn, end all threads."""
        await self.delay.stop()
        await asyncio.to_thread(self.batcher.stop)
        await asyncio.to_thread(self._pool.shutdown)

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.batcher.ready

    def encoding(self, request: GenerateRequest) -> Encoding:
        """How the pictures of a request become files here."""
        return replace(request.encoding, recipe=self._recipe)

    async def generate(self, request: GenerateRequest, *, address: str = "") -> list[Picture]:
        """Draw all pictures of a request; picture i has seed + i.

        address: whose turn it is where the request has no client_id

        Cancelling it drops the pictures that no engine has begun. Raises ServiceBusy when it
        would be too late, Superseded when a newer request of the client came, and
        ServiceUnavailable when the engine failed or the service is stopping.
        """
        with self.metrics.watched():
            work = self._generate(request.with_seed(), address)
            if request.supersede and request.client_id:
                pictures = await self._newest.run(request.client_id, work)
            else:
                pictures = await work
        self.metrics.drawn(pictures)
        return pictures

    async def _generate(self, request: GenerateRequest, address: str) -> list[Picture]:
        deadline_ms = request.deadline_ms or self._deadline_ms
        # So that no address can be taken for a client's id.
        key = f"client {request.client_id}" if request.client_id else f"address {address}"
        # A busy event loop held the request up before it came here, and will hold up its answer.
        beside_s = self._encode_s + 2 * self.delay.seconds
        jobs = self.batcher.admit(key, request.count, deadline_ms / 1e3, beside_s=beside_s)
        pictures = [
            asyncio.wrap_future(self._encoded(request, seed, job))
            for seed, job in zip(request.seeds, jobs, strict=True)
        ]
        try:
            preparing = self._submit(partial(self._prepare, request, jobs))
            dropped, drawn = await asyncio.gather(
                asyncio.wrap_future(preparing), asyncio.gather(*pictures)
            )
        finally:
            for picture in pictures:
                picture.cancel()
            self.batcher.drop(jobs)
        return [replace(picture, dropped=dropped) for picture in drawn]

    def _prepare(self, request: GenerateRequest, jobs: Sequence[Job]) -> str:
        """Tokenise once, draw every seed's noise and supply the jobs (runs in the pool).

        Returns what of the prompt did not fit.
        """
        tokens = self.generator.tokenizer.encode(request.prompt)
        ids = np.repeat(tokens.ids[None], request.count, axis=0)  # [B, L]
        self.batcher.supply(jobs, ids, self.generator.noise(request.seeds))
        return tokens.dropped

    def _encoded(self, request: GenerateRequest, seed: int, job: Job) -> Future[Picture]:
        """Encode a job's pixels in the pool as soon as they are there.

        From the engine's thread to the pool's, so that the event loop is woken once a picture.
        """
        done: Future[Picture] = Future()

        def encode() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(self._encode(request, seed, job.drawn.result()))
            except Exception as error:
                done.set_exception(error)

        job.drawn.add_done_callback(lambda _: self._submit(encode))
        return done

    def _encode(self, request: GenerateRequest, seed: int, drawn: Drawn) -> Picture:
        """Make the file of one picture, and count its time from the pixels on."""
        encoding = self.encoding(request)
        picture = self.generator.picture(
            request.prompt, seed, drawn.pixels, encoding, drawn.timings
        )
        encode_s = time.perf_counter() - drawn.at
        self._encode_s += WEIGHT_OF_NEWEST * (encode_s - self._encode_s)
        return replace(picture, timings=replace(picture.timings, encode_ms=1e3 * encode_s))

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` on a pool thread."""
        try:
            return self._pool.submit(call)
        except RuntimeError as error:  # the pool is shut down
            raise ServiceUnavailable(STOPPING) from error
