"""Other people's ways to draw with the same weights, each at one step and its best.

All take a model folder in the diffusers layout, guidance_scale=1, one step, output_type="np" and
no progress bar, and are given the same latents, so that they draw the same pictures.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.machine import cores

if TYPE_CHECKING:
    from bench.worker import Drawer


def thread_counts() -> tuple[int, ...]:
    """Return the CPU thread counts that a peer may be best at: one, half of the cores, all."""
    most = cores()
    return tuple(sorted({1, max(1, most // 2), most}))


class _Pipeline:
    """A diffusers pipeline called as its users call it."""

    precision = "fp32"
    packages: tuple[str, ...] = ("diffusers", "torch", "transformers")
    build_s: float | None = None

    def __init__(self) -> None:
        warnings.simplefilter("ignore")
        self.threads = thread_counts()
        self.pipeline: Any = None
        self._stages: Any = None

    def set_threads(self, count: int) -> None:
        """Use this many CPU threads from now on."""
        import torch

        torch.set_num_threads(count)

    def build(self, batch: int) -> bool:
        """Compile nothing."""
        return False

    def draw(self, prompts: list[str], noise: NDArray[np.float32]) -> NDArray[Any]:
        """Call the pipeline; floats 0..1 [B, H, W, 3]."""
        pictures: NDArray[Any] = self.pipeline(
            prompts,
            num_inference_steps=1,
            guidance_scale=1,
            latents=self._latents(noise),
            output_type="np",
        ).images
        return pictures

    def stages(self, prompts: list[str], noise: NDArray[np.float32]) -> dict[str, float]:
        """Split a call by hooks on the pipeline's networks."""
        if self._stages is None:
            from bench.torch_stages import TorchStages

            pipeline = self.pipeline
            self._stages = TorchStages(pipeline.text_encoder, pipeline.unet, pipeline.vae)
        told: dict[str, float] = self._stages.time(lambda: self.draw(prompts, noise))
        return told

    def _latents(self, noise: NDArray[np.float32]) -> Any:
        import torch

        return torch.from_numpy(noise).to(self.pipeline.device, self.pipeline.unet.dtype)


class Diffusers(_Pipeline):
    """`StableDiffusionPipeline`, eager; fp16 on a GPU, as its documentation advises."""

    name = "diffusers"

    def __init__(self, model: Path) -> None:
        """Open the folder as a pipeline."""
        import torch
        from diffusers import StableDiffusionPipeline

        super().__init__()
        gpu = torch.cuda.is_available()
        self.precision = "fp16" if gpu else "fp32"
        dtype = torch.float16 if gpu else torch.float32
        pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=dtype)
        self.pipeline = pipeline.to("cuda" if gpu else "cpu")
        self.pipeline.set_progress_bar_config(disable=True)


class TorchCompile(Diffusers):
    """The same pipeline with UNet and decoder through `torch.compile`, anew for each batch size."""

    name = "torch-compile"

    def __init__(self, model: Path) -> None:
        """Open the folder and compile for one picture."""
        import torch

        super().__init__(model)
        # The most threads that are tried: a compiled loop keeps the count that it was made for.
        self.threads = (self.threads[-1],)
        torch.set_num_threads(self.threads[0])
        pipeline = self.pipeline
        mode = "max-autotune" if torch.cuda.is_available() else "default"
        pipeline.unet = torch.compile(pipeline.unet, mode=mode, dynamic=False)
        pipeline.vae.decoder = torch.compile(pipeline.vae.decoder, mode=mode, dynamic=False)
        self._size = pipeline.unet.config.sample_size
        self._channels = pipeline.unet.config.in_channels
        began = time.perf_counter()
        self.build(1)
        self.build_s = time.perf_counter() - began

    def build(self, batch: int) -> bool:
        """Compile for this batch size, by drawing once."""
        noise = np.zeros((batch, self._channels, self._size, self._size), np.float32)
        self.draw(["a"] * batch, noise)
        return True

    def stages(self, prompts: list[str], noise: NDArray[np.float32]) -> dict[str, float]:
        """Compiled code has no hooks."""
        return {}


class Optimum(_Pipeline):
    """optimum-onnx's `ORTStableDiffusionPipeline`, on three graphs that it exports itself."""

    name = "optimum"
    packages: tuple[str, ...] = ("optimum-onnx", "onnxruntime", "diffusers", "transformers")
    _count = 0

    def __init__(self, model: Path) -> None:
        """Have the folder exported; ONNX Runtime fixes the threads when graphs are opened."""
        from optimum.onnxruntime import (  # type: ignore[import-not-found,unused-ignore]
            ORTStableDiffusionPipeline,
        )

        super().__init__()
        self._kind = ORTStableDiffusionPipeline
        self._folder = tempfile.TemporaryDirectory()
        began = time.perf_counter()
        # In a process of its own, since its memory is not what drawing needs.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            alone.submit(export_for_optimum, model, self._folder.name).result()
        self.build_s = time.perf_counter() - began
        self.set_threads(self.threads[-1])

    def set_threads(self, count: int) -> None:
        """Open the three graphs anew."""
        import onnxruntime as ort

        if self._count == count:
            return
        self._count = count
        options = ort.SessionOptions()
        options.intra_op_num_threads = count
        self.pipeline = self._kind.from_pretrained(self._folder.name, session_options=options)
        self.pipeline.set_progress_bar_config(disable=True)

    def stages(self, prompts: list[str], noise: NDArray[np.float32]) -> dict[str, float]:
        """Not split: its networks are no PyTorch modules."""
        return {}

    def _latents(self, noise: NDArray[np.float32]) -> Any:
        import torch

        return torch.from_numpy(noise)


def export_for_optimum(model: Path, out: str) -> None:
    """Write the graphs that optimum makes of a folder."""
    from optimum.onnxruntime import (  # type: ignore[import-not-found,unused-ignore]
        ORTStableDiffusionPipeline,
    )

    from bench.older_transformers import readable

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        source = readable(model, Path(scratch))
        ORTStableDiffusionPipeline.from_pretrained(str(source), export=True).save_pretrained(out)


PEERS: dict[str, Callable[[Path], Drawer]] = {
    "diffusers": Diffusers,
    "torch-compile": TorchCompile,
    "optimum": Optimum,
}
