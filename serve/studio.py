"""Requests -> pictures: tokenising, noise and encoding in a pool beside the engine's batcher."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from serve.batcher import STOPPING, Batcher
from serve.delay import LoopDelay
from serve.device import Device
from serve.lines import Drawn, Job
from serve.metrics import Metrics, ModelMetrics
from serve.moving_mean import MovingMean
from serve.newest import Newest
from serve.order import Order
from serve.settings import Settings
from serve.watchdog import Watchdog
from sidestep.errors import ServiceUnavailable
from sidestep.generator import Generator
from sidestep.requests import Encoding, GenerateRequest, Picture

POOL_THREADS = 2
QUICK_ELEMENTS = 4096  # of noise; drawing them takes no longer than a thread's wake-up
WEIGHT_OF_NEWEST = 0.1


class Studio:
    """`Generator.generate` for many callers at once; same pictures, batched."""

    def __init__(
        self,
        generator: Generator,
        settings: Settings,
        metrics: ModelMetrics | None = None,
        *,
        check: Callable[[NDArray[np.uint8]], None] = lambda pixels: None,
    ) -> None:
        """Make a studio around `generator`; start it before use.

        check: called with the pixels [H, W, 3] of each picture before it is encoded; may raise
        """
        self.generator = generator
        self.requests = 0  # under way, counted by whoever asks
        device = Device(generator.engine, generator.renew)
        self.batcher = Batcher(device, queue_limit=settings.queue_limit)
        self._watchdog = Watchdog(self.batcher, least_s=settings.hang_s)
        self.metrics = metrics or Metrics().of(generator.name)
        self._check = check
        self._recipe = settings.recipe
        self._deadline_ms = settings.deadline_ms
        self._latent_elements = math.prod(device.spec.noise_shape)
        self._newest: Newest[list[Picture]] = Newest()
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="encode")
        self.delay = LoopDelay()
        self._encoding = MovingMean(WEIGHT_OF_NEWEST)  # from pixels to picture

    async def start(self) -> None:
        """Warm the engine up, then open."""
        await asyncio.to_thread(self.batcher.start)
        self._watchdog.start()
        self.delay.start()
        self.metrics.watch(self.batcher)

    async def stop(self) -> None:
        """Fail what waits with ServiceUnavailable, finish what is drawn, end all threads."""
        await self.delay.stop()
        await asyncio.to_thread(self.batcher.stop)
        await asyncio.to_thread(self._watchdog.stop)
        await asyncio.to_thread(self._pool.shutdown)

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.batcher.ready

    def encoding(self, request: GenerateRequest) -> Encoding:
        """How the pictures of a request become files here."""
        return replace(request.encoding, recipe=self._recipe)

    async def generate(
        self,
        request: GenerateRequest,
        *,
        address: str = "",
        on_dropped: Callable[[int], None] = lambda count: None,
    ) -> list[Picture]:
        """Draw all pictures of a request; picture i has seed + i.

        address: whose turn it is where the request has no client_id
        on_dropped: told, at the end, how many pictures no engine had begun

        Cancelling it drops the pictures that no engine has begun. Raises ServiceBusy when it
        would be too late, Superseded when a newer request of the client came, and
        ServiceUnavailable when the engine failed or the service is stopping.
        """
        with self.metrics.watched():
            work = self._generate(request.with_seed(), address, on_dropped)
            if request.supersede and request.client_id:
                pictures = await self._newest.run(request.client_id, work)
            else:
                pictures = await work
        self.metrics.drawn(pictures)
        return pictures

    async def _generate(
        self, request: GenerateRequest, address: str, on_dropped: Callable[[int], None]
    ) -> list[Picture]:
        deadline_ms = request.deadline_ms or self._deadline_ms
        # So that no address can be taken for a client's id.
        key = f"client {request.client_id}" if request.client_id else f"address {address}"
        beside_s = self._encoding.seconds + self.delay.of_an_answer
        jobs = self.batcher.admit(key, request.count, deadline_ms / 1e3, beside_s=beside_s)
        order = Order(request)
        for place, job in enumerate(jobs):
            job.drawn.add_done_callback(partial(self._drawn, order, place))
        try:
            if request.count * self._latent_elements <= QUICK_ELEMENTS:
                self._prepare(order, jobs)
            else:
                self._submit(order, partial(self._prepare, order, jobs))
            return await order.pictures()
        finally:
            on_dropped(self.batcher.drop(jobs))

    def _prepare(self, order: Order, jobs: Sequence[Job]) -> None:
        """Tokenise once, draw every seed's noise and supply the jobs."""
        request = order.request
        try:
            tokens = self.generator.tokenizer.encode(request.prompt)
            order.dropped = tokens.dropped
            ids = np.repeat(tokens.ids[None], request.count, axis=0)  # [B, L]
            self.batcher.supply(jobs, ids, self.generator.noise(request.seeds))
        except Exception as error:
            order.fail(error)

    def _drawn(self, order: Order, place: int, drawn: Future[Drawn]) -> None:
        """Encode a job's pixels in the pool; runs on the engine's thread."""
        if drawn.cancelled() or order.over:
            return
        if error := drawn.exception():
            order.fail(error)
        else:
            self._submit(order, partial(self._encode, order, place, drawn.result()))

    def _encode(self, order: Order, place: int, drawn: Drawn) -> None:
        """Make the file of one picture, and count its time from the pixels on."""
        if order.over:
            return
        request = order.request
        try:
            self._check(drawn.pixels)
            picture = self.generator.picture(
                request.prompt,
                request.seeds[place],
                drawn.pixels,
                self.encoding(request),
                drawn.timings,
            )
            encode_s = time.perf_counter() - drawn.at
            self._encoding.add(encode_s)
            timings = replace(picture.timings, encode_ms=1e3 * encode_s)
            order.put(place, replace(picture, timings=timings))
        except Exception as error:
            order.fail(error)

    def _submit(self, order: Order, call: Callable[[], None]) -> None:
        """Run `call` for an order on a pool thread."""
        try:
            self._pool.submit(call)
        except RuntimeError:  # the pool is shut down
            order.fail(ServiceUnavailable(STOPPING))
