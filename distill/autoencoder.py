"""Train the embedded model's autoencoder: pictures [B, 3, H, W] in [-1, 1] <-> latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.adversary import Adversary
from distill.checkpoints import Checkpoint
from distill.draws import generator
from distill.interrupts import stop_requests
from distill.muon import hidden_and_rest
from distill.picture_quality import psnr, psnr_of_each, ssim
from distill.progress import Progress, save_grid
from distill.rates import cosine, set_rate
from sidestep.errors import Stopped


@dataclass(frozen=True)
class AutoencoderOptions:
    """How the autoencoder is built and trained.

    seconds: the training's length where it is shorter than `steps`; 0: no bound
    adversarial_weight: of a patch discriminator in the second half; 0: none
    latent_noise: where given latents are kept, the largest noise added to them, in their standard
        deviations; the decoder then forgives a generator what an encoder would never write, such as
        the mottle that one-step students leave on even areas
    """

    channels: tuple[int, ...] = (32, 64, 96)
    steps: int = 2500
    batch: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    edge_weight: float = 0.5
    latent_noise: float = 0.2
    kl_weight: float = 1e-4
    seconds: float = 0.0
    adversarial_weight: float = 0.0
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
        scaling_factor=1.0,
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


def train_autoencoder(
    pictures: NDArray[np.uint8] | Tensor,
    options: AutoencoderOptions,
    out: Path,
    *,
    keep: Tensor | None = None,
    start: AutoencoderKL | None = None,
    device: str = "cpu",
) -> AutoencoderKL:
    """Train on `pictures` [N, H, W, 3]; resume from `out/state-*.safetensors` if there is one.

    pictures: fastest where they lie on the device that trains
    keep: scaled latents [N, 4, h, w] of these pictures by another autoencoder. This one then
        learns to write and to read those, so that what was trained on them stays valid and a
        lighter decoder can take the place of a heavier one.
    start: the autoencoder of the kept latents. This one begins with all weights of it that fit;
        where all do, it leaves the encoder as it is, so that the decoder alone learns
    The returned model's `scaling_factor` is 1 / (standard deviation of the latents).
    Raises Stopped after a checkpoint where SIGINT or SIGTERM asked for it.
    """
    torch.manual_seed(options.seed)
    data = torch.as_tensor(pictures)
    model = new_autoencoder(options, size_px=data.shape[1])
    # Few channels at full size: on a CPU channels-last costs a quarter more.
    layout = torch.contiguous_format if device == "cpu" else torch.channels_last
    if start is not None:
        _begin_with(start, model)
    model = model.to(device, memory_format=layout)
    optimizers = hidden_and_rest([model], lr=options.learning_rate)
    adversary = _adversary(options, device)
    state = _state(out, model, optimizers, adversary, options)
    progress = Progress(out, "autoencoder", first=state.load(), last=options.steps, log_every=50)
    progress.within(options.seconds, spent=state.spent())
    with stop_requests() as stop:
        for step in progress:
            draw = generator(options.seed, "autoencoder", step)
            rows = torch.randint(len(data), (options.batch,), generator=draw)
            x = to_unit(data[rows.to(data.device)].to(device)).contiguous(memory_format=layout)
            kept = None if keep is None else keep[rows.to(keep.device)].to(device)
            with torch.autocast(x.device.type, torch.bfloat16):
                y, prior = _reconstruct(model, x, kept, options, draw)
            y = y.float()
            reconstruction = reconstruction_loss(x, y, edge_weight=options.edge_weight)
            loss = reconstruction + prior
            judge = adversary if 2 * step > progress.last else None
            if judge:
                loss = loss + judge.term(y, reconstruction, model.decoder.conv_out.weight)
            loss.backward()
            rate = cosine(
                step, peak=options.learning_rate, warmup=options.warmup_steps, last=progress.last
            )
            for optimizer in optimizers.values():
                set_rate(optimizer, rate)
                optimizer.step()
                optimizer.zero_grad()
            if judge:
                judge.update(x, y)
            if progress.due(step):
                losses = {"loss": reconstruction.item(), "prior": prior.item()}
                progress.report(step, {**losses, "psnr": psnr(x, y.detach())})
            stopping = stop.asked
            if stopping or progress.save_due():
                state.save(step, spent=progress.spent)
                pairs = [list(to_pictures(x[:10])), list(to_pictures(y[:10].detach()))]
                save_grid(out / f"reconstructions-{step:06d}.png", pairs)
            if stopping:
                break
        if stop.asked:  # in the last step too: what follows may last hours
            raise Stopped(progress.step, progress.last, out)
    return _finish(model.eval(), data, keep, device)


def _adversary(options: AutoencoderOptions, device: str) -> Adversary | None:
    if not options.adversarial_weight:
        return None
    return Adversary(
        weight=options.adversarial_weight, learning_rate=options.learning_rate / 4, device=device
    )


def _state(
    out: Path,
    model: AutoencoderKL,
    optimizers: Mapping[str, torch.optim.Optimizer],
    adversary: Adversary | None,
    options: AutoencoderOptions,
) -> Checkpoint:
    """Name what a checkpoint holds."""
    modules: dict[str, nn.Module] = {"model": model}
    if adversary is not None:
        modules["adversary"] = adversary.network
        optimizers = {**optimizers, "adversary": adversary.optimizer}
    return Checkpoint(out, modules, optimizers, asdict(options))


def _begin_with(start: AutoencoderKL, model: AutoencoderKL) -> None:
    """Copy the weights that fit and the scale of the latents; freeze an encoder that all fit."""
    mine = model.state_dict()
    fitting = {
        key: weight
        for key, weight in start.state_dict().items()
        if key in mine and mine[key].shape == weight.shape
    }
    model.load_state_dict(fitting, strict=False)
    model.register_to_config(scaling_factor=start.config.scaling_factor)
    if len(fitting) == len(mine):
        for part in (model.encoder, model.quant_conv):
            part.requires_grad_(False)


def _finish(model: AutoencoderKL, data: Tensor, keep: Tensor | None, device: str) -> AutoencoderKL:
    """Write into the config how latents are scaled to unit deviation; kept ones are."""
    if keep is None:
        latents = encode_all(model, data[:: max(1, len(data) // 1024)], device=device)
        model.register_to_config(scaling_factor=1 / latents.std().item())
    return model.requires_grad_(True)


def _reconstruct(
    model: AutoencoderKL,
    x: Tensor,
    kept: Tensor | None,
    options: AutoencoderOptions,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Decode x's posterior, or the kept latents, with noise; and the loss that holds the latents.

    That is KL to the unit normal, or the encoder's squared distance to the kept latents, which is
    none where the encoder is the one that wrote them.
    """
    if kept is None:
        posterior = model.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw).to(x.device)
        y = model.decode(posterior.mean + posterior.std * noise).sample
        return y, options.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()
    noise = torch.randn(kept.shape, generator=draw).to(x.device)
    level = options.latent_noise * torch.rand(len(x), 1, 1, 1, generator=draw)
    noisy = kept + level.to(x.device) * noise
    scale = model.config.scaling_factor
    y = model.decode(noisy / scale).sample
    if not model.quant_conv.weight.requires_grad:
        return y, kept.new_zeros(())
    return y, F.mse_loss(scale * model.encode(x).latent_dist.mean.float(), kept)


@torch.no_grad()
def encode_all(
    model: AutoencoderKL, pictures: NDArray[np.uint8] | Tensor, *, device: str = "cpu"
) -> Tensor:
    """Posterior means of all pictures, fp32 [N, 4, h, w], unscaled, on the CPU."""
    batches = torch.as_tensor(pictures).split(128)
    return torch.cat([model.encode(to_unit(b.to(device))).latent_dist.mean.cpu() for b in batches])


@torch.no_grad()
def reconstruction_quality(
    model: AutoencoderKL, pictures: Tensor, *, device: str = "cpu"
) -> dict[str, float]:
    """Measure reconstructions, as 8-bit pictures, of pictures [N, H, W, 3] that were not seen."""
    levels, similar = [], []
    for batch in pictures.split(64):
        x = to_unit(batch.to(device))
        drawn = torch.from_numpy(to_pictures(model.decode(model.encode(x).latent_dist.mean).sample))
        y = to_unit(drawn.to(device))
        levels.append(psnr_of_each(x, y))
        similar.append(ssim(x, y))
    return {
        "pictures": float(len(pictures)),
        "psnr_db": round(torch.cat(levels).mean().item(), 2),
        "ssim": round(torch.cat(similar).mean().item(), 4),
    }
