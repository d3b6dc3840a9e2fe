"""Prove that an engine draws the reference's pictures, and keep the proof beside it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import LEVELS, Engine
from sidestep.errors import CertificateFailed
from sidestep.files import write_json
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from sidestep.engines.torch_module import GeneratorModule

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
FEW = 3  # prompts that large pictures are certified on, alone and together
LARGE_PX = 256  # above this height a picture takes a CPU seconds
FLAT = 20.0  # standard deviation in levels below which pictures prove nothing


@dataclass(frozen=True)
class Tolerance:
    """How far from the reference an engine of one precision may be, in levels of 255 and dB."""

    largest: int
    psnr_db: float


TOLERANCES = {
    "fp32": Tolerance(LEVELS["fp32"], 48.0),
    "fp16": Tolerance(LEVELS["fp16"], 40.0),
    "bf16": Tolerance(LEVELS["bf16"], 36.0),
}


@dataclass(frozen=True)
class Reference:
    """What fp32 PyTorch draws from the fixed prompts and seeds.

    ids int64 [B, L], noise float32 [B, 4, h, w] or [B, steps, 4, h, w], pixels uint8 [B, H, W, 3]
    """

    prompts: tuple[str, ...]
    ids: NDArray[np.int64]
    noise: NDArray[np.float32]
    pixels: NDArray[np.uint8]

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes to certify at."""
        count = len(self.prompts)
        return BATCHES if count == len(PROMPTS) else (1, count)

    @property
    def contrast(self) -> float:
        """Standard deviation over each picture and channel, averaged; levels of 255."""
        return float(self.pixels.std(axis=(1, 2)).mean())


@dataclass(frozen=True)
class Certificate:
    """How far an engine's pixels are from the fp32 PyTorch reference, in levels of 255.

    batch_invariance: largest difference of a picture drawn alone and drawn in a batch
    psnr_db: infinity is written as null
    tolerance, least_psnr_db: what `precision` allows
    contrast: the reference's mean standard deviation over a picture
    proof: what else was found, such as activation maxima of an fp16 graph
    """

    engine: str
    precision: str
    weights: str
    largest_difference: int
    mean_difference: float
    psnr_db: float | None
    batch_invariance: int
    batches: tuple[int, ...]
    prompts: tuple[str, ...]
    contrast: float
    tolerance: int
    least_psnr_db: float
    machine: str
    proof: dict[str, Any] = field(default_factory=dict)


def draw_reference(
    module: GeneratorModule,
    tokenizer: PromptTokenizer,
    noise_shape: tuple[int, ...],
    prompts: Sequence[str] = PROMPTS,
) -> Reference:
    """Draw prompts at seeds 0, 1, ... with the reference, fewer of them if they are large.

    Raises CertificateFailed if the pictures are too flat to tell a difference.
    """
    import torch

    ids = tokenizer(prompts)
    noise = latent_noise(range(len(prompts)), noise_shape)
    with torch.inference_mode():
        drawn = [module(torch.from_numpy(ids[:1]), torch.from_numpy(noise[:1]))]
        large = drawn[0].shape[1] > LARGE_PX
        count = min(FEW, len(prompts)) if large else len(prompts)
        step = 1 if large else count
        for start in range(1, count, step):
            rows = slice(start, min(start + step, count))
            drawn.append(module(torch.from_numpy(ids[rows]), torch.from_numpy(noise[rows])))
    pixels = torch.cat(drawn).numpy()
    reference = Reference(tuple(prompts[:count]), ids[:count], noise[:count], pixels)
    if (contrast := reference.contrast) < FLAT:
        raise CertificateFailed(
            f"the reference's pictures are flat (standard deviation {contrast:.1f} of 255, at "
            f"least {FLAT:.0f} is needed), so they prove nothing; train the model first"
        )
    return reference


def certify(
    reference: Reference,
    engine: Engine,
    *,
    precision: str = "fp32",
    proof: Mapping[str, Any] | None = None,
    batches: Sequence[int] = (),
) -> Certificate:
    """Draw the reference's prompts and seeds with an engine, alone and in batches, and compare.

    batches: sizes to draw in besides those of the reference, such as a plan's buckets
    Raises CertificateFailed where the difference is beyond the precision's tolerance.
    """
    ids, noise = reference.ids, reference.noise
    sizes = sorted({*reference.batches, *batches})
    batches = tuple(size for size in sizes if size <= engine.spec.max_batch)
    alone = _draw(engine, ids, noise, 1)
    together = [_draw(engine, ids, noise, size) for size in batches if size > 1]
    difference = np.stack([_distance(reference.pixels, drawn) for drawn in (alone, *together)])
    mse = float(np.square(difference.astype(np.float64)).mean())
    certificate = Certificate(
        engine=engine.spec.name,
        precision=precision,
        weights=engine.spec.weights,
        largest_difference=int(difference.max()),
        mean_difference=float(difference.mean()),
        psnr_db=round(10 * np.log10(255**2 / mse), 1) if mse else None,
        batch_invariance=max((int(_distance(alone, d).max()) for d in together), default=0),
        batches=batches,
        prompts=reference.prompts,
        contrast=round(reference.contrast, 1),
        tolerance=TOLERANCES[precision].largest,
        least_psnr_db=TOLERANCES[precision].psnr_db,
        machine=f"{platform.system()} {platform.machine()}",
        proof=dict(proof or {}),
    )
    _check(certificate)
    return certificate


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Keep the proof as JSON."""
    write_json(path, asdict(certificate))


def _check(certificate: Certificate) -> None:
    engine, tolerance = certificate.engine, certificate.tolerance
    allowed = f"{certificate.precision} allows"
    if certificate.largest_difference > tolerance:
        raise CertificateFailed(
            f"{engine} differs from PyTorch by up to {certificate.largest_difference} levels of "
            f"255; {allowed} {tolerance}"
        )
    if certificate.psnr_db is not None and certificate.psnr_db < certificate.least_psnr_db:
        raise CertificateFailed(
            f"{engine} differs from PyTorch by {certificate.psnr_db} dB (PSNR); {allowed} "
            f"{certificate.least_psnr_db:.0f} dB or more"
        )
    if certificate.batch_invariance > tolerance:
        raise CertificateFailed(
            f"{engine} draws a picture in a batch up to {certificate.batch_invariance} levels of "
            f"255 off the same picture alone; {allowed} {tolerance}"
        )


def _draw(
    engine: Engine, ids: NDArray[np.int64], noise: NDArray[np.float32], size: int
) -> NDArray[np.uint8]:
    """Draw all rows in batches of `size`; the last batch wraps round to stay full."""
    rows = np.arange(-(-len(ids) // size) * size) % len(ids)
    drawn = [engine(ids[part], noise[part]) for part in rows.reshape(-1, size)]
    return np.concatenate(drawn)[: len(ids)]


def _distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16))
