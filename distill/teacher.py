"""Train the embedded model's teacher: text encoder and UNet together, on cached latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from distill import ema
from distill.attention import use_fastest_attention
from distill.checkpoints import Checkpoint
from distill.draws import generator
from distill.interrupts import stop_requests
from distill.muon import hidden_and_rest
from distill.processes import current
from distill.progress import Progress
from distill.rates import cosine, set_rate
from sidestep.errors import Stopped
from sidestep.schedule import NoiseSchedule


@dataclass(frozen=True)
class TeacherOptions:
    """How the teacher is built and trained.

    seconds: the training's length where it is shorter than `steps`; 0: no bound
    largest_weight: bound of the loss weight 1 / a_t^2, see `loss_weights`
    """

    channels: tuple[int, ...] = (64, 96, 128)
    text_width: int = 128
    text_layers: int = 3
    steps: int = 6000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    ema_beta: float = 0.999
    empty_captions: float = 0.1
    largest_weight: float = 40.0
    seconds: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class CaptionedLatents:
    """The training set, encoded once; a step draws where the latents lie.

    latents: fp32 [N, 4, h, w], scaled to unit standard deviation
    captions: int64 [N, K, L]; token ids of K captions of each picture, one drawn per step
    empty: int64 [L]; the unconditional caption ''
    groups: sizes of the runs of pictures that are drawn equally often, together N; none: one run
    shares: how often each group is drawn
    """

    latents: Tensor
    captions: Tensor
    empty: Tensor
    groups: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()

    def to(self, device: torch.device | str) -> CaptionedLatents:
        """Move everything to a device."""
        parts = (self.latents.to(device), self.captions.to(device), self.empty.to(device))
        return CaptionedLatents(*parts, self.groups, self.shares)

    def draw_rows(self, count: int, draw: torch.Generator) -> Tensor:
        """Draw pictures: a group by its share, then one of it."""
        device = self.latents.device
        if not self.groups:
            return torch.randint(len(self.latents), (count,), generator=draw, device=device)
        sizes = torch.tensor(self.groups, device=device)
        shares = torch.tensor(self.shares, device=device) * (sizes > 0)
        group = torch.multinomial(shares, count, replacement=True, generator=draw)
        place = torch.rand(count, generator=draw, device=device) * sizes[group]
        return (sizes.cumsum(0) - sizes)[group] + place.long().clamp(max=sizes[group] - 1)


def new_text_encoder(options: TeacherOptions, *, vocabulary: int, length: int) -> CLIPTextModel:
    """Build an untrained CLIPTextModel; ids as in `sidestep.tokenizer`, [B, L] -> [B, L, D]."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=options.text_width,
            intermediate_size=4 * options.text_width,
            num_hidden_layers=options.text_layers,
            num_attention_heads=4,
            max_position_embeddings=length,
            projection_dim=options.text_width,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def new_unet(options: TeacherOptions, *, latent_size: int) -> UNet2DConditionModel:
    """Build an untrained UNet; attention on all levels but the finest, where it costs most."""
    below = len(options.channels) - 1
    return UNet2DConditionModel(
        sample_size=latent_size,
        block_out_channels=options.channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * below,
        up_block_types=("CrossAttnUpBlock2D",) * below + ("UpBlock2D",),
        cross_attention_dim=options.text_width,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


def draw_batch(data: CaptionedLatents, options: TeacherOptions, step: int) -> tuple[Tensor, ...]:
    """Draw x_0, ids, noise and t of one step; `empty_captions` of the captions are ''."""
    device = data.latents.device
    draw = generator(options.seed, "teacher", step, device=device)
    count = options.batch
    rows = data.draw_rows(count, draw)
    which = torch.randint(data.captions.shape[1], (count,), generator=draw, device=device)
    dropped = torch.rand(count, generator=draw, device=device) < options.empty_captions
    ids = torch.where(dropped[:, None], data.empty, data.captions[rows, which])
    x0 = data.latents[rows].float()
    noise = torch.randn(x0.shape, generator=draw, device=device)
    return x0, ids, noise, torch.randint(1000, (count,), generator=draw, device=device)


def loss_weights(schedule: NoiseSchedule, options: TeacherOptions) -> Tensor:
    """Weigh the eps-loss of every timestep by 1 / a_t^2 = 1 + 1 / SNR, up to `largest_weight`.

    |v' - v|^2 = |eps' - eps|^2 / a^2 (Salimans & Ho, 2022): high noise, where the caption decides
    on shape and colour, then counts as much as low noise, where eps itself is hard to tell.
    """
    a = torch.from_numpy(schedule.a).float()
    return (1 / a**2).clamp(max=options.largest_weight)


def train_teacher(
    networks: Sequence[nn.Module],
    data: CaptionedLatents,
    schedule: NoiseSchedule,
    options: TeacherOptions,
    out: Path,
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Train (text encoder, UNet) on eps-prediction and return their moving averages.

    Resumes from `out/state-*.safetensors`. The networks' device is the one that trains.
    """
    text_encoder, unet = networks
    device = next(unet.parameters()).device
    for network in (text_encoder, unet):
        use_fastest_attention(network)
    averages = [ema.average_of(network) for network in networks]
    weights = [p for network in networks for p in network.parameters()]
    optimizers = hidden_and_rest(networks, lr=options.learning_rate)
    modules = dict(
        zip(("text", "unet", "text_ema", "unet_ema"), [*networks, *averages], strict=True)
    )
    state = Checkpoint(out, modules, optimizers, asdict(options))
    a = torch.from_numpy(schedule.a).float().to(device)
    sigma = torch.from_numpy(schedule.sigma).float().to(device)
    weight = loss_weights(schedule, options).to(device)

    processes = current()
    first, mine = state.load(), processes.rows(options.batch)
    if processes.count == 1:
        data = data.to(device)
    progress = Progress(out, "teacher", first=first, last=options.steps, log_every=50)
    progress.within(options.seconds, spent=state.spent(), together=processes)
    stopping = False
    with stop_requests() as stop:
        for step in progress:
            x0, ids, noise, t = (p[mine].to(device) for p in draw_batch(data, options, step))
            x_t = a[t, None, None, None] * x0 + sigma[t, None, None, None] * noise
            with torch.autocast(device.type, torch.bfloat16):
                text = text_encoder(ids).last_hidden_state
                predicted = unet(x_t.contiguous(memory_format=torch.channels_last), t, text).sample
            error = F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))
            loss = (weight[t] * error).mean()
            loss.backward()
            processes.average_gradients(weights)
            nn.utils.clip_grad_norm_(weights, 1.0)
            rate = cosine(
                step, peak=options.learning_rate, warmup=options.warmup_steps, last=progress.last
            )
            for optimizer in optimizers.values():
                set_rate(optimizer, rate)
                optimizer.step()
                optimizer.zero_grad()
            beta = min(options.ema_beta, step / (step + 10))
            for average, network in zip(averages, networks, strict=True):
                ema.update(average, network, beta=beta)
            if progress.due(step):
                progress.report(step, {"loss": loss.item(), "eps": error.mean().item()})
            stopping = processes.any(stop.asked)
            if processes.writes and (stopping or progress.save_due()):
                state.save(step, spent=progress.spent)
            if stopping:
                break
        if stopping:  # in the last step too: what follows may last hours
            raise Stopped(progress.step, progress.last, out)
    return averages[0], averages[1]
