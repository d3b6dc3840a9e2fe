"""Train the embedded model's autoencoder: pictures [B, 3, H, W] in [-1, 1] <-> latents."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from distill.checkpoints import Checkpoint
from distill.draws import generator
from distill.progress import Progress, save_grid
from distill.rates import cosine, set_rate


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the autoencoder is built and trained.

    latent_noise: where given latents are kept, the largest noise added to them, in their standard
        deviations; the decoder then forgives a generator what an encoder would never write
    """

    channels: tuple[int, ...] = (32, 64, 96)
    steps: int = 2500
    batch: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    edge_weight: float = 0.5
    latent_noise: float = 0.2
    kl_weight: float = 1e-4
    seed: int = 0


def new_autoencoder(options: AutoencoderOptions, *, size_px: int) -> AutoencoderKL:
    """Build an untrained AutoencoderKL; it shrinks by 2 per channel count after the first."""
    levels = len(options.channels)
    return AutoencoderKL(
        sample_size=size_px,
        block_out_channels=options.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(x: Tensor) -> NDArray[np.uint8]:
    """float [B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3], as the exported graph rounds."""
    pixels: NDArray[np.uint8] = (
        (x.float() * 127.5 + 128).clamp(0, 255).permute(0, 2, 3, 1).byte().cpu().numpy()
    )
    return pixels


def edges(x: Tensor) -> Tensor:
    """Sobel gradients of every channel: [B, C, H, W] -> [B*C, 2, H, W]."""
    sobel = (
        torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=x.device) / 4
    )
    return F.conv2d(
        x.flatten(0, 1).unsqueeze(1), torch.stack([sobel, sobel.T]).unsqueeze(1), padding=1
    )


def reconstruction_loss(x: Tensor, y: Tensor, *, edge_weight: float) -> Tensor:
    """Mean |x - y| + (x - y)^2, plus the L1 distance of their edges, which keeps outlines sharp."""
    return F.l1_loss(y, x) + F.mse_loss(y, x) + edge_weight * F.l1_loss(edges(y), edges(x))


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return 10 * math.log10(4 / F.mse_loss(x.float(), y.float()).item())


def train_autoencoder(
    pictures: NDArray[np.uint8],
    options: AutoencoderOptions,
    out: Path,
    *,
    keep: Tensor | None = None,
    device: str = "cpu",
) -> AutoencoderKL:
    """Train on `pictures` [N, H, W, 3]; resume from `out/state-*.safetensors` if there is one.

    keep: scaled latents [N, 4, h, w] of these pictures by another autoencoder. This one then
        learns to write and to read those, so that what was trained on them stays valid and a
        lighter decoder can take the place of a heavier one.
    The returned model's `scaling_factor` is 1 / (standard deviation of the latents).
    """
    torch.manual_seed(options.seed)
    model = new_autoencoder(options, size_px=pictures.shape[1])
    # Few channels at full size: on a CPU channels-last costs a quarter more.
    layout = torch.contiguous_format if device == "cpu" else torch.channels_last
    model = model.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=1e-4, fused=True
    )
    state = Checkpoint(out, {"model": model}, {"adamw": optimizer}, asdict(options))
    data = torch.from_numpy(pictures)
    progress = Progress(out, "autoencoder", first=state.load(), last=options.steps, log_every=50)
    for step in progress:
        draw = generator(options.seed, "autoencoder", step)
        rows = torch.randint(len(data), (options.batch,), generator=draw)
        x = to_unit(data[rows]).to(device, memory_format=layout).contiguous(memory_format=layout)
        kept = None if keep is None else keep[rows].to(device)
        with torch.autocast(x.device.type, torch.bfloat16):
            y, prior = _reconstruct(model, x, kept, options, draw)
        reconstruction = reconstruction_loss(x, y.float(), edge_weight=options.edge_weight)
        (reconstruction + prior).backward()
        rate = cosine(
            step, peak=options.learning_rate, warmup=options.warmup_steps, last=options.steps
        )
        set_rate(optimizer, rate)
        optimizer.step()
        optimizer.zero_grad()
        losses = {"loss": reconstruction.item(), "prior": prior.item()}
        progress.report(step, {**losses, "psnr": psnr(x, y.detach())})
        if step % 250 == 0 or step == options.steps:
            state.save(step)
            pairs = [list(to_pictures(x[:10])), list(to_pictures(y[:10].detach()))]
            save_grid(out / f"reconstructions-{step:06d}.png", pairs)
    model.eval()
    if keep is None:
        latents = encode_all(model, pictures[:: max(1, len(pictures) // 1024)], device=device)
        model.register_to_config(scaling_factor=1 / latents.std().item())
    else:
        model.register_to_config(scaling_factor=1.0)  # the kept latents are scaled
    return model


def _reconstruct(
    model: AutoencoderKL,
    x: Tensor,
    kept: Tensor | None,
    options: AutoencoderOptions,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Decode x's posterior, or the kept latents, with noise; and the loss that holds the latents.

    That is KL to the unit normal, or the encoder's squared distance to the kept latents.
    """
    posterior = model.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=draw).to(x.device)
    if kept is None:
        y = model.decode(posterior.mean + posterior.std * noise).sample
        return y, options.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()
    level = options.latent_noise * torch.rand(len(x), 1, 1, 1, generator=draw)
    y = model.decode(kept + level.to(x.device) * noise).sample
    return y, F.mse_loss(posterior.mean.float(), kept)


@torch.no_grad()
def encode_all(model: AutoencoderKL, pictures: NDArray[np.uint8], *, device: str = "cpu") -> Tensor:
    """Posterior means of all pictures, fp32 [N, 4, h, w], unscaled."""
    batches = torch.from_numpy(pictures).split(128)
    return torch.cat([model.encode(to_unit(b).to(device)).latent_dist.mean.cpu() for b in batches])
