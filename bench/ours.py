"""Our engines as contenders, with their time split by stage where the engine can be taken apart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.certificates import certificate_of
from sidestep.engines.contract import Engine
from sidestep.engines.load import load_engine
from sidestep.images import encode
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise
from sidestep.requests import FORMATS
from sidestep.tokenizer import PromptTokenizer


class EngineDrawer:
    """An engine behind its tokenizer. It chooses its own threads."""

    threads: tuple[int, ...] = ()
    packages: tuple[str, ...] = ()
    build_s: float | None = None

    def __init__(self, model: Path, engine: str, decoder: str = "full") -> None:
        """Open the engine named `engine` of a model folder, with its "full" or "small" decoder."""
        self._folder = ModelFolder.open(model).with_decoder(decoder)
        card = self._folder.card
        self._tokenizer = PromptTokenizer(model / "tokenizer", length=card.tokens)
        self._engine = load_engine(self._folder, engine)
        self._split: Any = None
        self.name = self._engine.spec.name
        self.precision = _precision(self._folder, self.name)

    def set_threads(self, count: int) -> None:
        """Leave the engine's own choice."""

    def build(self, batch: int) -> bool:
        """Nothing is compiled at run time; `sidestep export` did it."""
        return False

    def draw(self, prompts: list[str], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Tokenise and call the engine, in parts no larger than it takes."""
        ids, most = self._tokenizer(prompts), self._engine.spec.max_batch
        parts = [slice(start, start + most) for start in range(0, len(prompts), most)]
        drawn = [self._engine(ids[part], noise[part]) for part in parts]
        return drawn[0] if len(drawn) == 1 else np.concatenate(drawn)

    def stages(self, prompts: list[str], noise: NDArray[np.float32]) -> dict[str, float]:
        """Time what is around the engine, and its networks where it can be taken apart."""
        clock = _Clock()
        ids = self._tokenizer(prompts)
        clock.lap("tokenise")
        latent_noise(range(len(prompts)), self._engine.spec.noise_shape)
        clock.lap("noise")
        if len(prompts) <= self._engine.spec.max_batch:
            clock.ms.update(self._networks(ids, noise))
        pixels = self.draw(prompts, noise)
        clock.lap("")
        for kind in FORMATS[:2]:  # PNG and JPEG
            for picture in pixels:
                encode(picture, kind)
            clock.lap(kind)
        clock.ms.pop("")
        return clock.ms

    def _networks(self, ids: NDArray[np.int64], noise: NDArray[np.float32]) -> dict[str, float]:
        if self._split is None:
            self._split = _splitter(self._folder, self._engine)
        split: dict[str, float] = self._split(ids, noise)
        return split


class _Clock:
    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.ms[name] = 1e3 * (now - self._last)
        self._last = now


def _splitter(folder: ModelFolder, engine: Engine) -> Any:
    """Return what times the networks of one call; it tells nothing of an engine that is one."""
    name = engine.spec.name
    if name.removesuffix("-small") == "onnx-cpu":
        try:
            from bench.onnx_stages import OnnxStages
        except ImportError:  # the graph is cut with the package onnx, of the extra [export]
            return lambda ids, noise: {}
        return OnnxStages(folder)
    if name.startswith("pytorch"):
        from bench.torch_stages import TorchStages

        module = engine._run  # type: ignore[attr-defined]
        stages = TorchStages(module.text_encoder, module.unet, module.vae)
        return lambda ids, noise: stages.time(lambda: engine(ids, noise))
    return lambda ids, noise: {}


def _precision(folder: ModelFolder, engine: str) -> str:
    path = certificate_of(folder, engine)
    if path is None or not path.is_file():
        return "fp32"
    return str(json.loads(path.read_text(encoding="utf-8")).get("precision", "fp32"))
