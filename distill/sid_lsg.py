"""SiD-LSG: distil a teacher into a one-step generator (Zhou et al., 2024, Algorithm 1).

theta: the generator   psi: the fake score   phi: the teacher, frozen
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from distill import ema
from distill.attention import use_fastest_attention
from distill.checkpoints import Checkpoint
from distill.draws import generator as seeded
from distill.losses import Guidance, Network, NoisyBatch, fake_score_loss, generator_loss, one_step
from distill.presets import strategy
from distill.processes import current
from distill.progress import Progress
from sidestep.schedule import NoiseSchedule

EMPTY_PROMPTS = 0.1
T_MIN, T_MAX = 20, 979
_LENGTH = ("iterations", "checkpoint_every")


@dataclass(frozen=True)
class DistillOptions:
    """How a student is distilled; the defaults are the embedded model's.

    learning_rate: of both networks (the paper's 1e-6 is for 860M parameters)
    ema_half_life: in images; 0 turns the average off
    """

    guidance: Guidance = field(default_factory=lambda: strategy("lsg", 1.5))
    iterations: int = 600
    batch: int = 32
    learning_rate: float = 5e-5
    ema_half_life: int = 50_000
    autocast: bool = True
    checkpoint_every: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Prompts:
    """The text of the training prompts, encoded once by the teacher's frozen text encoder.

    texts: [P, L, D]; null_text: [1, L, D], the embedding of ''
    """

    texts: Tensor
    null_text: Tensor


@dataclass(frozen=True)
class Draw:
    """The random parts of one phase: z, noise [B, 4, h, w]; t int64 [B]; text [B, L, D]."""

    z: Tensor
    noise: Tensor
    t: Tensor
    text: Tensor

    def rows(self, rows: slice) -> Draw:
        """Return some rows of the batch."""
        return Draw(self.z[rows], self.noise[rows], self.t[rows], self.text[rows])


def draw_phase(
    prompts: Prompts,
    options: DistillOptions,
    latent_shape: tuple[int, int, int],
    labels: tuple[str, int],
    *,
    empty: float = 0.0,
) -> Draw:
    """Draw prompts, z, eps and t ~ U{20..979} of one phase; a share `empty` of prompts is ''."""
    source = seeded(options.seed, *labels)
    device = prompts.texts.device
    rows = torch.randint(len(prompts.texts), (options.batch,), generator=source)
    dropped = torch.rand(options.batch, generator=source) < empty
    t = torch.randint(T_MIN, T_MAX + 1, (options.batch,), generator=source)
    shape = (options.batch, *latent_shape)
    z, noise = (torch.randn(shape, generator=source).to(device) for _ in range(2))
    text = torch.where(dropped.to(device)[:, None, None], prompts.null_text, prompts.texts[rows])
    return Draw(z, noise, t.to(device), text)


def as_network(unet: UNet2DConditionModel, *, autocast: bool) -> Network:
    """Wrap a UNet as the losses call it, in bf16 autocast and channels-last."""

    def call(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=autocast):
            sample: Tensor = unet(x_t, t, text).sample
        return sample

    return call


def step_adam(optimizer: torch.optim.Optimizer) -> None:
    """Apply the gradients, with nan as 0 and infinities as ±1e5, and drop them."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                torch.nan_to_num_(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def distil(
    teacher: UNet2DConditionModel,
    prompts: Prompts,
    schedule: NoiseSchedule,
    options: DistillOptions,
    out: Path,
    *,
    on_checkpoint: Callable[[int, UNet2DConditionModel], None] = lambda step, student: None,
) -> UNet2DConditionModel:
    """Distil `teacher` and return the generator's moving average (or itself without one).

    Resumes from `out/state.safetensors` and then ends bit for bit where an unbroken run ends.
    `on_checkpoint` is called in the process that writes.
    """
    guidance, latents = options.guidance, _latent_shape(teacher)
    use_fastest_attention(teacher)
    theta, psi = (ema.average_of(teacher).train().requires_grad_(True) for _ in range(2))
    teacher.eval().requires_grad_(False)
    average = ema.average_of(theta) if options.ema_half_life else None
    adams = {name: _adam(net, options) for name, net in (("theta", theta), ("psi", psi))}
    modules: dict[str, nn.Module] = {"theta": theta, "psi": psi}
    if average is not None:
        modules["average"] = average
    # A longer run is the same run: nothing of a step depends on how many follow it.
    identity = {k: v for k, v in asdict(options).items() if k not in _LENGTH}
    state = Checkpoint(out / "state.safetensors", modules, adams, identity)
    generate, fake, real = (
        as_network(net, autocast=options.autocast) for net in (theta, psi, teacher)
    )

    processes = current()
    first, mine = state.load(), processes.rows(options.batch)
    progress = Progress(
        out,
        "SiD-LSG",
        first=first,
        last=options.iterations,
        log_every=10,
        shown=processes.writes,
    )
    for step in progress:
        # The fake score learns what the generator draws now.
        empty = EMPTY_PROMPTS if guidance.drops_prompts else 0.0
        draw = draw_phase(prompts, options, latents, ("fake", step), empty=empty).rows(mine)
        with torch.no_grad():
            x_g = one_step(generate, schedule, draw.z, draw.text)
        batch = NoisyBatch(x_g, draw.noise, draw.t, draw.text, prompts.null_text)
        fake_loss = fake_score_loss(fake, schedule, batch, guidance)
        fake_loss.backward()
        processes.average_gradients(psi.parameters())
        step_adam(adams["psi"])

        # The generator moves to where teacher and fake score agree.
        psi.requires_grad_(False)
        draw = draw_phase(prompts, options, latents, ("generator", step)).rows(mine)
        x_g = one_step(generate, schedule, draw.z, draw.text)
        batch = NoisyBatch(x_g, draw.noise, draw.t, draw.text, prompts.null_text)
        loss = generator_loss(fake, real, schedule, batch, guidance)
        loss.backward()
        processes.average_gradients(theta.parameters())
        step_adam(adams["theta"])
        psi.requires_grad_(True)

        if average is not None:
            seen = (step - 1) * options.batch
            half_life = options.ema_half_life
            beta = ema.half_life_beta(seen, batch=options.batch, half_life_images=half_life)
            ema.update(average, theta, beta=beta)
        elements = x_g[0].numel()
        progress.report(
            step, {"fake": fake_loss.item() / elements, "generator": loss.item() / elements}
        )
        due = step % options.checkpoint_every == 0 or step == options.iterations
        if processes.writes and due:
            state.save(step)
            on_checkpoint(step, average if average is not None else theta)
    return average if average is not None else theta.eval().requires_grad_(False)


def _latent_shape(unet: UNet2DConditionModel) -> tuple[int, int, int]:
    size = unet.config.sample_size
    return unet.config.in_channels, size, size


def _adam(network: nn.Module, options: DistillOptions) -> torch.optim.Adam:
    return torch.optim.Adam(
        network.parameters(), lr=options.learning_rate, betas=(0.0, 0.999), eps=1e-8
    )
