"""The models that are served: requests choose one by name, and each has its own queue.

The seed's noise is a pure function of seed and shape, so models of one latent shape draw the same
noise for the same seed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from serve.errors import ModelNotFound
from serve.metrics import Metrics
from serve.policy import Policy
from serve.settings import Settings
from serve.studio import Studio
from serve.tracing import trace_stages
from serve.watching import watch
from sidestep.errors import ServiceBusy, ServiceUnavailable, Superseded
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest, Picture

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

logger = logging.getLogger("sidestep.serve")
# Programs hard-code these names; all of them mean the default model.
ALIASES = ("sidestep", "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5")
LOOK_EVERY_S = 0.05
T = TypeVar("T")


class Models:
    """Studios by the names of their models; the first is the default."""

    def __init__(self, generators: Sequence[Generator], settings: Settings) -> None:
        """Make a studio for each generator, whose names differ; start them before use."""
        self.metrics = Metrics()
        self.tracer: Tracer | None = None
        self._settings = settings
        self._policy = Policy(settings)
        self._watching: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._studios = {generator.name: self._studio(generator) for generator in generators}

    async def start(self) -> None:
        """Warm all engines up, then open; raises what an engine raises."""
        for studio in self._studios.values():
            await studio.start()
        if self._settings.watch_s:
            self._watching = asyncio.ensure_future(watch(self, self._settings.watch_s))

    async def stop(self) -> None:
        """Stop all studios, replaced ones included."""
        ending = [*self._under_way, *((self._watching,) if self._watching else ())]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.gather(*(studio.stop() for studio in self._studios.values()))

    def drain(self) -> None:
        """Fail what still waits with ServiceUnavailable: the time to finish it is over."""
        for studio in self._studios.values():
            self._background(asyncio.to_thread(studio.batcher.stop))

    @property
    def names(self) -> list[str]:
        """The models' names, the default first."""
        return list(self._studios)

    @property
    def generators(self) -> list[Generator]:
        """What draws, in the order of `names`."""
        return [studio.generator for studio in self._studios.values()]

    @property
    def ready(self) -> bool:
        """Whether every model takes requests."""
        return all(studio.ready for studio in self._studios.values())

    def of(self, name: str | None) -> Studio:
        """Find the studio of a model, the first without a name; raises ModelNotFound."""
        default = next(iter(self._studios.values()))
        if name is None:
            return default
        found = self._studios.get(name, default if name in ALIASES else None)
        if found is None:
            names, aliases = ", ".join(self._studios), ", ".join(ALIASES)
            message = f"model must be one of {names}; {aliases} mean the first"
            raise ModelNotFound(message, field="model")
        return found

    async def generate(self, request: GenerateRequest, *, address: str = "") -> list[Picture]:
        """Draw all pictures of a request with the model it names; see `Studio.generate`.

        Raises PolicyViolation for a prompt or picture that is denied, and ServiceBusy for a caller
        who has had too many.
        """
        with self.metrics.watched():
            studio = self.of(request.model)
        with studio.metrics.watched():
            request, whose = self._policy.admit(request, studio.generator.name, address)
        studio.requests += 1
        dropped: list[int] = []
        try:
            pictures = await studio.generate(request, address=whose, on_dropped=dropped.append)
            trace_stages(self.tracer, pictures)
            return pictures
        except (ServiceBusy, ServiceUnavailable):  # nothing was drawn
            self._policy.give_back(request.count, address)
            raise
        except (Superseded, asyncio.CancelledError):  # nobody waits for what was not begun
            self._policy.give_back(sum(dropped) if dropped else request.count, address)
            raise
        finally:
            studio.requests -= 1

    async def reload(self, name: str) -> Generator:
        """Open a model's folder anew and let it take over; returns what draws now.

        The new engine is opened and warmed up beside the old one, which finishes what it has
        accepted. Raises what opening raises, such as InvalidModel, and the old one goes on. Who
        leaves meanwhile changes nothing: what is being opened on a thread cannot be stopped.
        """
        return await asyncio.shield(self._background(self._reload(name)))

    async def _reload(self, name: str) -> Generator:
        async with self._reloading:  # one at a time: room for one engine more, not for all twice
            old = self.of(name)
            name = old.generator.name
            try:
                studio = self._studio(await asyncio.to_thread(old.generator.again))
                await _started(studio)
            except Exception:
                self.metrics.reloads.labels(name, "failed").inc()
                raise
            self._studios[name] = studio
            self.metrics.reloads.labels(name, "done").inc()
            self._background(_retire(old))
        spec = studio.generator.engine.spec
        logger.info("model %s is opened anew: %s, weights %.12s", name, spec.name, spec.weights)
        return studio.generator

    def _background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that ends by itself, or with the service."""
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _studio(self, generator: Generator) -> Studio:
        metrics = self.metrics.of(generator.name)
        return Studio(generator, self._settings, metrics, check=self._policy.check_picture)


async def _started(studio: Studio) -> None:
    """Start a studio, or leave nothing of it."""
    try:
        await studio.start()
    except BaseException as error:
        await studio.stop()
        if not isinstance(error, Exception):
            raise
        raise ServiceUnavailable(f"the new engine cannot draw ({error})") from error


async def _retire(studio: Studio) -> None:
    """Stop a studio that nobody can choose any more, when it has answered what it accepted."""
    try:
        while studio.requests:  # each has a deadline
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await asyncio.shield(studio.stop())
