"""Distil a decoder: an AutoencoderTiny that draws what a generator's autoencoder draws, sooner.

Without data: prompts and noise go through the one-step generator, its own decoder says what its
latents look like, and the small one learns that. It is TAESD's network; its encoder, which nothing
here needs, is left at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from distill.autoencoder import reconstruction_loss, to_pictures
from distill.checkpoints import Checkpoint
from distill.decoder_options import DecoderOptions
from distill.draws import generator
from distill.interrupts import stop_requests
from distill.picture_quality import psnr
from distill.progress import Progress, save_grid
from distill.rates import cosine, set_rate
from sidestep.engines.torch_module import GeneratorModule
from sidestep.errors import Stopped
from sidestep.noise import latent_noise
from sidestep.schedule import noise_shape

SHOWN = 8  # pictures in a row of the grid
LOG_EVERY = 25


@dataclass(frozen=True)
class HeldOut:
    """Latents [N, 4, h, w] that nothing is trained on, and the full decoder's pictures of them."""

    latents: Tensor
    pictures: Tensor  # [N, 3, H, W] in -1 ... 1


class Latents:
    """What the generator draws, as (latents, pictures by its own decoder), from ids [P, L]."""

    def __init__(self, module: GeneratorModule, ids: Tensor, device: torch.device) -> None:
        """Take the generator, which is moved to the device, and the prompts' ids."""
        self._module, self._ids, self._device = module.to(device), ids, device

    @torch.no_grad()
    def draw(self, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw prompts `rows` [B] from `noise` [B, ...]; pictures are decoded in fp32."""
        ids, noise = self._ids[rows].to(self._device), noise.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            x_g = self._module.latents(ids, noise).float()
        return x_g, self._module.decode(x_g)

    def trained(self, step: int, shape: tuple[int, ...], options: DecoderOptions) -> Any:
        """Draw the batch of a step, which depends on the seed and the step alone."""
        draw = generator(options.seed, "decoder", step)
        rows = torch.randint(len(self._ids), (options.batch,), generator=draw)
        return self.draw(rows, torch.randn((options.batch, *shape), generator=draw))

    def held_out(self, count: int, shape: tuple[int, ...]) -> HeldOut:
        """Draw `count` latents of seeds 0, 1 ..., which training never sees, one by one."""
        noise = torch.from_numpy(latent_noise(range(count), shape))
        rows = torch.arange(count) * max(1, len(self._ids) // count) % len(self._ids)
        drawn = [self.draw(rows[i : i + 1], noise[i : i + 1]) for i in range(count)]
        latents, pictures = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        return HeldOut(latents, pictures)


def new_decoder(options: DecoderOptions, full: AutoencoderKL) -> AutoencoderTiny:
    """Build an untrained AutoencoderTiny for the latents and picture size of `full`."""
    levels = len(full.config.block_out_channels)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8,) * levels,
        decoder_block_out_channels=(options.channels,) * levels,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(*[options.blocks] * (levels - 1), 1),
        latent_channels=full.config.latent_channels,
    )
    with torch.no_grad():
        for weight in tiny.encoder.parameters():
            weight.zero_()
    return tiny


def train_decoder(
    module: GeneratorModule,
    ids: Tensor,
    options: DecoderOptions,
    out: Path,
    *,
    identity: dict[str, Any],
    device: torch.device,
) -> tuple[AutoencoderTiny, float]:
    """Train on prompts `ids` [P, L]; returns the decoder and its PSNR in dB on held-out latents.

    Resumes from `out/state-*.safetensors` where there is one of the same options and `identity`.
    Raises Stopped after a checkpoint where SIGINT or SIGTERM asked for it.
    """
    torch.manual_seed(options.seed)
    tiny = new_decoder(options, module.vae).to(device)
    decoder = tiny.decoder
    optimizer = torch.optim.AdamW(
        decoder.parameters(), lr=options.learning_rate, weight_decay=1e-4, fused=True
    )
    identity = {**options.identity, **identity}
    state = Checkpoint(out, {"decoder": decoder}, {"adamw": optimizer}, identity)
    drawn = Latents(module, ids, device)
    size = module.unet.config.sample_size
    shape = noise_shape((module.unet.config.in_channels, size, size), module.schedule.steps)
    held_out = drawn.held_out(options.held_out, shape)
    progress = Progress(
        out,
        "decoder",
        first=state.load(),
        last=options.steps,
        log_every=LOG_EVERY,
        images=options.batch,
    )
    with stop_requests() as stop:
        for step in progress:
            x_g, wanted = drawn.trained(step, shape, options)
            with torch.autocast(device.type, torch.bfloat16):
                y = decoder(x_g)
            loss = reconstruction_loss(wanted, y.float(), edge_weight=options.edge_weight)
            loss.backward()
            rate = cosine(
                step, peak=options.learning_rate, warmup=options.warmup_steps, last=options.steps
            )
            set_rate(optimizer, rate)
            optimizer.step()
            optimizer.zero_grad()
            if progress.due(step):
                progress.report(step, {"loss": loss.item(), "psnr": psnr(wanted, y.detach())})
            stopping = stop.asked
            if stopping or step % options.checkpoint_every == 0 or step == options.steps:
                state.save(step)
                progress.log(step, {"held_out_psnr": measure(decoder, held_out)})
                _save_grid(out / f"samples-{step:06d}.png", decoder, held_out)
            if stopping and step < options.steps:
                raise Stopped(step, options.steps, out)
    tiny = tiny.cpu().half().float()  # as its file will hold it
    held_out = HeldOut(held_out.latents.cpu(), held_out.pictures.cpu())
    return tiny.eval().requires_grad_(False), measure(tiny.decoder, held_out)


def measure(decoder: Callable[[Tensor], Tensor], held_out: HeldOut) -> float:
    """Return the PSNR in dB of all held-out pictures against the full decoder's, as shown."""
    drawn = _decode(decoder, held_out.latents)
    return psnr(held_out.pictures.clamp(-1, 1), drawn.clamp(-1, 1))


def _save_grid(path: Path, decoder: Callable[[Tensor], Tensor], held_out: HeldOut) -> None:
    """Draw the full decoder's pictures above the small one's."""
    rows = (held_out.pictures[:SHOWN], _decode(decoder, held_out.latents[:SHOWN]))
    save_grid(path, [list(to_pictures(row)) for row in rows])


@torch.no_grad()
def _decode(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """Decode one by one, since a large picture takes much memory."""
    return torch.cat([decoder(part) for part in latents.split(1)])
