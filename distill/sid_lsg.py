"""SiD-LSG: distil a teacher into a one- or few-step generator (Zhou et al., 2024, Algorithm 1).

theta: the generator   psi: the fake score   phi: the teacher, frozen
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from distill import ema
from distill.adversarial import adversarial_losses, discriminator_losses
from distill.checkpoints import Checkpoint
from distill.few_steps import several_steps
from distill.interrupts import stop_requests
from distill.losses import Network, NoisyBatch, fake_score_losses, generator_losses
from distill.options import DistillOptions
from distill.precision import PRECISIONS
from distill.processes import current
from distill.progress import Progress, widest_spread
from distill.real_pictures import RealLatents
from distill.samples import Samples
from distill.shards import whole_unet
from distill.tally import Tally
from distill.texts import Texts
from distill.trained import Scoring, Trained, prepare
from distill.watch import Watch
from sidestep.engines.pytorch import forbid_tf32
from sidestep.errors import Stopped
from sidestep.schedule import NoiseSchedule

EMPTY_PROMPTS = 0.1
LOG_EVERY = 10  # updates
WATCHED = range(16)  # pictures


@dataclass(frozen=True)
class Run:
    """Where a distillation keeps its state, what it belongs to, and who watches it.

    identity: what a resume must not change, besides the options
    on_checkpoint: called by all processes together, with the step and the student
    """

    folder: Path
    identity: Mapping[str, Any] = field(default_factory=dict)
    on_checkpoint: Callable[[int, Network], None] = lambda step, student: None


class Distillation:
    """The networks of Algorithm 1 and one update of each of them."""

    def __init__(
        self,
        teacher: UNet2DConditionModel,
        texts: Texts,
        schedule: NoiseSchedule,
        options: DistillOptions,
        real: RealLatents | None = None,
    ) -> None:
        """Copy `teacher`, which is left as it is, to the device of `texts`.

        real: switches the adversarial term on
        """
        if options.precision == "fp32":
            forbid_tf32()
        device = texts.null_text.device
        self.options, self.schedule, self.guidance = options, schedule, options.guidance
        self.real = real
        self.samples = Samples(texts, _latent_shape(teacher), options.seed, schedule.steps)
        self.passes = current().passes(options.batch, options.per_device_batch)
        self.theta = Trained(prepare(_trainable(teacher, device), options), options, clip=True)
        self.psi = Trained(prepare(_trainable(teacher, device), options), options)
        phi = ema.average_of(teacher).to(device)
        self.phi = Scoring(prepare(phi, options), PRECISIONS[options.precision])
        self.average: Scoring | None = None
        if options.ema_half_life:
            average = ema.average_of(teacher).to(device)
            prepare(average, options, weights=torch.float32)
            self.average = Scoring(average, PRECISIONS["fp32"])
        self.tally = Tally(elements=math.prod(self.samples.latent_shape))

    @property
    def student(self) -> Scoring:
        """What the distillation makes: the generator's average, or the generator without one."""
        return self.average or self.theta

    def update(self, step: int) -> None:
        """Update psi, theta and the average, each once; `step` counts from 1."""
        samples, schedule, guidance = self.samples, self.schedule, self.guidance
        theta, psi, passes = self.theta, self.psi, self.passes
        empty = EMPTY_PROMPTS if guidance.drops_prompts else 0.0

        # The fake score learns what the generator draws now (equation 7).
        for rows in passes:
            draw = samples.draw("fake", step, rows, empty=empty)
            with torch.no_grad():
                x_g = several_steps(theta, schedule, draw.z, draw.text)
            batch = samples.noisy(draw, x_g)
            losses = fake_score_losses(psi, schedule, batch, guidance)
            self.tally.add("fake", losses)
            if self.real is not None:  # its encoder learns to tell them from real ones, too
                real, noise = self.real.draw(step, rows)
                judged = discriminator_losses(psi.critic, schedule, batch, real, noise)
                self.tally.add("discriminator", judged, elements=1)
                losses = losses + judged
            psi.backward(losses.mean() / len(passes), last=rows is passes[-1])
        psi.update()

        # The generator moves to where teacher and fake score agree (equations 8 and 9).
        with psi.frozen():
            for rows in passes:
                draw = samples.draw("generator", step, rows)
                x_g = several_steps(theta, schedule, draw.z, draw.text)
                batch = samples.noisy(draw, x_g)
                losses = generator_losses(
                    psi, self.phi, schedule, batch, guidance, adversarial=self._adversarial(batch)
                )
                theta.backward(losses.mean() / len(passes), last=rows is passes[-1])
                self.tally.add("generator", losses)
        theta.update()

        # Its average is the student (section 4).
        if self.average is not None:
            options = self.options
            beta = ema.half_life_beta(
                (step - 1) * options.batch,
                batch=options.batch,
                half_life_images=options.ema_half_life,
            )
            ema.update(self.average.unet, theta.unet, beta=beta)

    def _adversarial(self, batch: NoisyBatch) -> Tensor | None:
        """Weigh the generator's adversarial losses [B], where there are real pictures."""
        if self.real is None:
            return None
        losses = adversarial_losses(self.psi.critic, self.schedule, batch)
        self.tally.add("adversarial", losses, elements=1)
        return self.options.adversarial_weight * losses


def distil(
    teacher: UNet2DConditionModel,
    texts: Texts,
    schedule: NoiseSchedule,
    options: DistillOptions,
    run: Run,
    real: RealLatents | None = None,
) -> UNet2DConditionModel:
    """Distil `teacher` on the device of `texts`; return the generator's average, or itself.

    real: real pictures, which switch the adversarial term on

    Resumes from `state-*.safetensors` in the run's folder, and then ends bit for bit where an
    unbroken run ends. The teacher is left as it is.

    Raises Stopped after a checkpoint where SIGINT or SIGTERM asked for it.
    """
    work = Distillation(teacher, texts, schedule, options, real)
    state = _checkpoint(work, run)
    first = state.load()
    watched = work.samples.draw("watch", 0, WATCHED, schedule.steps)
    fixed, widest = work.samples.noisy(watched, watched.z), widest_spread(run.folder, first)
    watch = Watch(schedule, fixed, options.guidance, widest)
    progress = Progress(
        run.folder,
        "SiD-LSG",
        first=first,
        last=options.iterations,
        log_every=LOG_EVERY,
        images=options.batch,
    )
    processes = current()
    progress.within(options.seconds, spent=state.spent(), together=processes)
    stopping = False
    with stop_requests() as stop:
        for step in progress:
            work.update(step)
            stopping = processes.any(stop.asked)
            if progress.due(step):
                progress.report(step, work.tally.drain())
            if stopping or step % options.checkpoint_every == 0 or progress.final:
                state.save(step, spent=progress.spent)
                progress.log(step, watch.measure(work.student, work.psi, work.phi))
                run.on_checkpoint(step, work.student)
            if stopping:
                break
        if stopping:  # in the last step too: what follows may last hours
            raise Stopped(progress.step, progress.last, run.folder)
    return whole_unet(work.student.unet)


def _checkpoint(work: Distillation, run: Run) -> Checkpoint:
    trained = {"theta": work.theta, "psi": work.psi}
    averaged = {} if work.average is None else {"average": work.average}
    return Checkpoint(
        run.folder,
        {name: part.unet for name, part in {**trained, **averaged}.items()},
        {name: part.adam for name, part in trained.items()},
        {**work.options.identity, **run.identity},
        {name: part.scaler for name, part in trained.items() if part.scaler.is_enabled()},
        work.options.keep_checkpoints,
    )


def _trainable(teacher: UNet2DConditionModel, device: torch.device) -> UNet2DConditionModel:
    copy: UNet2DConditionModel = ema.average_of(teacher).to(device)
    return copy.train().requires_grad_(True)


def _latent_shape(unet: UNet2DConditionModel) -> tuple[int, int, int]:
    size = unet.config.sample_size
    return unet.config.in_channels, size, size
