"""Prompts and seeds -> pictures: the library's front door.

Generator.load("models/emoji")("red apple", seed=7).save("a.png")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidestep import __version__
from sidestep.engines.contract import Engine
from sidestep.engines.several import load_on_devices
from sidestep.errors import NoGpu
from sidestep.images import Recipe, encode
from sidestep.model_folder import ModelFolder
from sidestep.model_info import ModelInfo
from sidestep.noise import latent_noise
from sidestep.requests import Encoding, GenerateRequest, ImageFormat, Picture, Timings
from sidestep.tokenizer import PromptTokenizer


class Generator:
    """A model's tokenizer and engine, and what lies between a request and its pictures.

    The steps are public, because a server runs them apart: `tokenizer`, `noise`, the `engine` on a
    batch of both, and `picture`.
    """

    def __init__(
        self,
        name: str,
        tokenizer: PromptTokenizer,
        engine: Engine,
        *,
        examples: Sequence[str] = (),
        reopen: Callable[[], Engine] | None = None,
    ) -> None:
        """Join a tokenizer and an engine; `name` is the model's, for recipes.

        examples: prompts that the model draws well
        reopen: opens the engine anew after a fault; the same engine again if absent
        """
        self.name = name
        self.tokenizer = tokenizer
        self.engine = engine
        self.examples = tuple(examples)
        self.styles: tuple[str, ...] = ()
        self.limits = ""
        self._reopen = reopen or (lambda: engine)
        self.again: Callable[[], Generator] = lambda: self
        self.source: ModelFolder | None = None

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        engine: str = "auto",
        decoder: str = "full",
        name: str | None = None,
        devices: Sequence[int] = (),
    ) -> Generator:
        """Open a model folder (default: the embedded model); raises InvalidModel if damaged.

        decoder: "full", or "small" where the folder has one
        name: what the model is called here; as its card says if absent
        devices: numbers of the GPUs to draw on; the first alone if absent

        The generator's `again` does the same once more, with the files as they are then.
        """
        folder = ModelFolder.open(path).with_decoder(decoder)
        folder.check(folder.files_under("tokenizer"))  # half its merges would draw other things
        tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
        card, name = folder.card, name or folder.card.name
        reopen = partial(load_on_devices, folder, engine, devices)
        opened = cls(name, tokenizer, reopen(), examples=card.examples, reopen=reopen)
        opened.styles, opened.limits = card.styles, card.limits
        again = partial(cls.load, folder.path, engine=engine, decoder=decoder, name=name)
        opened.again = partial(again, devices=devices)
        opened.source = folder
        return opened

    def renew(self) -> Engine:
        """Open the engine anew after a fault, and draw with that one from now on.

        Raises what opening raises, and NoGpu where another engine opens instead, such as a CPU's
        where "auto" finds that the GPU is gone: its pictures would bear the name of the first.
        """
        engine = self._reopen()
        if engine.spec != self.engine.spec:
            raise NoGpu(
                f"{self.engine.spec.name} cannot be opened anew; {engine.spec.name} opened instead"
            )
        self.engine = engine
        return engine

    @property
    def info(self) -> ModelInfo:
        """What a caller may know of this model."""
        spec = self.engine.spec
        told = (self.examples, self.styles, self.limits, spec.steps)
        return ModelInfo(self.name, spec.image_size, spec.weights, spec.name, *told)

    @property
    def licence(self) -> str | None:
        """Name the licences in the model's card, each once."""
        licences = self.source.card.licences if self.source else {}
        return ", ".join(dict.fromkeys(licences.values())) or None

    def __call__(
        self, prompt: str, *, seed: int | None = None, format: ImageFormat = "png"
    ) -> Picture:
        """Draw one picture; raises InvalidRequest for a prompt, seed or format out of bounds."""
        request = GenerateRequest.parse({"prompt": prompt, "seed": seed, "format": format})
        return self.generate(request)[0]

    def generate(self, request: GenerateRequest, *, recipe: bool = True) -> list[Picture]:
        """Draw all pictures of a request; picture i has seed + i.

        recipe: whether the files tell what they were drawn from
        """
        request = request.with_seed()
        encoding = replace(request.encoding, recipe=recipe)
        return self.draw([request.prompt] * request.count, request.seeds, encoding)

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        encoding: Encoding = Encoding(),  # noqa: B008 (frozen)
    ) -> list[Picture]:
        """Draw one picture for each pair of prompt and seed, in batches as the engine likes."""
        ids = self.tokenizer(prompts)
        pictures = []
        for start in range(0, len(prompts), self.engine.spec.max_batch):
            rows = slice(start, start + self.engine.spec.max_batch)
            began = time.perf_counter()
            pixels = self.engine(ids[rows], self.noise(seeds[rows]))
            engine_ms = 1e3 * (time.perf_counter() - began)
            timings = Timings(engine_ms=engine_ms, batch_size=len(pixels))
            for prompt, seed, image in zip(prompts[rows], seeds[rows], pixels, strict=True):
                pictures.append(self.picture(prompt, seed, image, encoding, timings))
        return pictures

    def noise(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """Draw the noise of these seeds: [B, 4, h, w], or [B, steps, 4, h, w] for several steps."""
        return latent_noise(seeds, self.engine.spec.noise_shape)

    def picture(
        self,
        prompt: str,
        seed: int,
        pixels: NDArray[np.uint8],
        encoding: Encoding,
        timings: Timings,
    ) -> Picture:
        """Encode pixels [H, W, 3] with their recipe inside; `timings` gains the encoding's time."""
        spec = self.engine.spec
        made_of = (self.name, spec.weights, spec.name, __version__, encoding.quality, self.licence)
        recipe = Recipe(prompt, seed, *made_of) if encoding.recipe else None
        began = time.perf_counter()
        data = encode(pixels, encoding.format, recipe, quality=encoding.quality)
        encode_ms = 1e3 * (time.perf_counter() - began)
        timings = Timings(timings.queue_ms, timings.engine_ms, encode_ms, timings.batch_size)
        return Picture(data, seed, encoding.format, timings)
