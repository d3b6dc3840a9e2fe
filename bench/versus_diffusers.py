"""One picture by our engine against one step of diffusers' own pipeline, in one run.

    python -m bench.versus_diffusers [MODEL]

Both draw the same weights at batch 1. diffusers runs `StableDiffusionPipeline` with
guidance_scale=1, one step, output_type="np" and no progress bar, at the best of several thread
counts. Calls of the two alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from sidestep.engines.load import load_engine
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

ROUNDS = 40


def timed_ms(call: Callable[[], object]) -> float:
    """Run `call` once; milliseconds."""
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    """Print the medians and their ratio."""
    warnings.simplefilter("ignore")
    folder = ModelFolder.open(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    engine = load_engine(folder)
    tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
    noise = latent_noise([7], folder.card.latent_shape)
    pipeline = StableDiffusionPipeline.from_pretrained(folder.path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def ours() -> None:
        engine(tokenizer(["red apple"]), noise)

    def theirs() -> None:
        latents = torch.from_numpy(noise)
        pipeline(
            "red apple",
            num_inference_steps=1,
            guidance_scale=1,
            latents=latents,
            output_type="np",
        )

    cores = os.cpu_count() or 1
    medians: dict[int, list[float]] = {}
    for threads in sorted({1, max(1, cores // 2), cores}):
        torch.set_num_threads(threads)
        for _ in range(5):
            ours()
            theirs()
        pairs = [(timed_ms(ours), timed_ms(theirs)) for _ in range(ROUNDS)]
        medians[threads] = [statistics.median(side) for side in zip(*pairs, strict=True)]
    threads, (mine, other) = min(medians.items(), key=lambda item: item[1][1])
    print(f"{engine.spec.name}: median {mine:.1f} ms, one thread, {ROUNDS} calls")
    print(f"diffusers: median {other:.1f} ms, {threads} threads (the best of {sorted(medians)})")
    print(f"ratio {other / mine:.1f}")


if __name__ == "__main__":
    main()
