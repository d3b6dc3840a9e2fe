"""Prove that an engine draws the reference's pictures, and keep the proof beside it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sidestep.engines.contract import Engine
from sidestep.engines.torch_module import OneStepGenerator
from sidestep.errors import CertificateFailed
from sidestep.files import write_json
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

PROMPTS = (
    "red apple",
    "octopus",
    "fire engine",
    "sunflower",
    "pizza",
    "cat face",
    "rocket",
    "blue heart",
)
BATCHES = (1, 2, 5, 8)
FP32_TOLERANCE = 1  # levels of 255
FLAT = 20.0  # standard deviation in levels below which pictures prove nothing


@dataclass(frozen=True)
class Certificate:
    """How far an engine's pixels are from the fp32 PyTorch reference, in levels of 255.

    batch_invariance: largest difference of a picture drawn alone and drawn in a batch
    psnr_db: infinity is written as null
    """

    engine: str
    weights: str
    largest_difference: int
    mean_difference: float
    psnr_db: float | None
    batch_invariance: int
    batches: tuple[int, ...]
    prompts: tuple[str, ...]
    tolerance: int
    machine: str


def certify(
    reference: OneStepGenerator,
    engine: Engine,
    tokenizer: PromptTokenizer,
    *,
    batches: Sequence[int] = BATCHES,
    tolerance: int = FP32_TOLERANCE,
) -> Certificate:
    """Draw the same prompts and seeds with both and compare them.

    Raises CertificateFailed above `tolerance` levels, or if the pictures are too flat to tell.
    """
    ids = tokenizer(PROMPTS)
    noise = latent_noise(range(len(PROMPTS)), engine.spec.latent_shape)
    with torch.inference_mode():
        wanted = reference(torch.from_numpy(ids), torch.from_numpy(noise)).numpy()
    if (spread := float(wanted.std())) < FLAT:
        raise CertificateFailed(
            f"the reference's pictures are flat (standard deviation {spread:.1f} of 255, at least "
            f"{FLAT:.0f} is needed), so they prove nothing; train the model first"
        )
    alone = np.concatenate([engine(ids[i : i + 1], noise[i : i + 1]) for i in range(len(ids))])
    together = [_draw(engine, ids, noise, size) for size in batches]
    difference = np.stack([_distance(wanted, drawn) for drawn in (alone, *together)])
    if (largest := int(difference.max())) > tolerance:
        raise CertificateFailed(
            f"{engine.spec.name} differs from PyTorch by up to {largest} levels of 255; "
            f"at most {tolerance} is allowed"
        )
    mse = float(np.square(difference.astype(np.float64)).mean())
    return Certificate(
        engine=engine.spec.name,
        weights=engine.spec.weights,
        largest_difference=largest,
        mean_difference=float(difference.mean()),
        psnr_db=round(10 * np.log10(255**2 / mse), 1) if mse else None,
        batch_invariance=int(max(_distance(alone, drawn).max() for drawn in together)),
        batches=tuple(batches),
        prompts=PROMPTS,
        tolerance=tolerance,
        machine=f"{platform.system()} {platform.machine()}",
    )


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Keep the proof as JSON."""
    write_json(path, asdict(certificate))


def _draw(
    engine: Engine, ids: NDArray[np.int64], noise: NDArray[np.float32], size: int
) -> NDArray[np.uint8]:
    """Draw all rows in batches of `size`; the last batch wraps round to stay full."""
    rows = np.arange(-(-len(ids) // size) * size) % len(ids)
    drawn = [engine(ids[part], noise[part]) for part in rows.reshape(-1, size)]
    return np.concatenate(drawn)[: len(ids)]


def _distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16))
