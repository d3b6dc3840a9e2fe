"""One picture by our engine against one step of diffusers' own pipeline, in one run.

    python -m bench.versus_diffusers [MODEL]

Both draw the same weights at batch 1. diffusers runs `StableDiffusionPipeline` with
guidance_scale=1, one step, output_type="np" and no progress bar, at the best of several thread
counts. Blocks of calls alternate, so that a busy machine slows both and the threads of one, which
spin for a while after a call, do not hold up the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from sidestep.engines.load import load_engine
from sidestep.errors import SidestepError
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

ROUNDS, BLOCK = 8, 8


def block_ms(call: Callable[[], object]) -> list[float]:
    """Run `call` `BLOCK` times after two that do not count; milliseconds of each."""
    times = []
    for _ in range(2 + BLOCK):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return times[2:]


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", nargs="?", type=Path, help="folder; the embedded model if absent")
    warnings.simplefilter("ignore")
    try:
        folder = ModelFolder.open(parser.parse_args().model)
        engine = load_engine(folder)
    except SidestepError as error:
        parser.error(str(error))
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
    mine: list[float] = []
    other: dict[int, list[float]] = {n: [] for n in sorted({1, max(1, cores // 2), cores})}
    for _ in range(ROUNDS):
        mine += block_ms(ours)
        for threads, times in other.items():
            torch.set_num_threads(threads)
            times += block_ms(theirs)
    medians = {threads: statistics.median(times) for threads, times in other.items()}
    best = min(medians, key=lambda threads: medians[threads])
    print(f"{engine.spec.name}: median {statistics.median(mine):.1f} ms of {len(mine)} calls")
    for threads, median in medians.items():
        print(
            f"diffusers, {threads} threads: median {median:.1f} ms of {len(other[threads])} calls"
        )
    print(f"ratio {medians[best] / statistics.median(mine):.1f}")


if __name__ == "__main__":
    main()
