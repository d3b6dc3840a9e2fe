"""How long each part of the embedded model's training lasts, and how large its networks are.

Parts end by the clock, not by steps, so that the whole fits in its time on any machine of the kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from distill.autoencoder import AutoencoderOptions
from distill.emoji_pictures import Amounts
from distill.emoji_teacher import EmojiTeacherOptions
from distill.guidance import strategy
from distill.options import DistillOptions
from distill.presets import PRESETS
from distill.teacher import TeacherOptions

UNBOUND = 10_000_000  # steps: the clock ends the training


@dataclass(frozen=True)
class Budget:
    """One recipe: the teacher's parts, the student's, and a student for each guidance scale.

    default: the guidance scale of the student that is the model; the others stand beside it
    """

    about: str
    device: str
    teacher: EmojiTeacherOptions
    student: DistillOptions
    kappas: tuple[float, ...] = (1.5, 3.0, 4.5)
    default: float = 1.5

    @property
    def seconds(self) -> float:
        """The training time of all parts, without reading, encoding and exporting."""
        parts = (self.teacher.autoencoder, self.teacher.lighter, self.teacher.teacher)
        teacher = sum(part.seconds for part in parts if part)
        return teacher + self.student.seconds * len(self.kappas)


# What every picture costs, and four times what the repository holds: see docs/embedded-model.md.
UNET = (48, 80, 96)
AUTOENCODER = (16, 32, 64, 64)
LIGHTER = (16, 16, 32, 32)

BUDGETS = {
    "gpu": Budget(
        about="one H100-class GPU, under 25 minutes",
        device="cuda",
        teacher=EmojiTeacherOptions(
            autoencoder=AutoencoderOptions(
                channels=(32, 64, 128, 256),
                steps=UNBOUND,
                batch=64,
                seconds=300,
            ),
            lighter=AutoencoderOptions(
                channels=LIGHTER,
                steps=UNBOUND,
                batch=64,
                learning_rate=2e-3,
                adversarial_weight=0.5,
                seconds=180,
            ),
            teacher=TeacherOptions(
                channels=UNET,
                steps=UNBOUND,
                batch=512,
                learning_rate=1.5e-3,
                ema_beta=0.9995,
                seconds=480,
            ),
            size_px=128,
            amounts=Amounts(colours=3, pairs=1500),
        ),
        student=DistillOptions(
            guidance=strategy("lsg", 1.5),
            iterations=UNBOUND,
            batch=256,
            init_timestep=800,
            seconds=80,
            checkpoint_every=200,
        ),
    ),
    "cpu": Budget(
        about="two CPU cores, under 8 hours",
        device="cpu",
        teacher=EmojiTeacherOptions(
            autoencoder=AutoencoderOptions(
                channels=AUTOENCODER,
                steps=UNBOUND,
                batch=8,
                learning_rate=1.5e-3,
                seconds=3780,
            ),
            lighter=AutoencoderOptions(
                channels=LIGHTER,
                steps=UNBOUND,
                batch=8,
                learning_rate=2e-3,
                adversarial_weight=0.5,
                seconds=2700,
            ),
            teacher=TeacherOptions(
                channels=UNET,
                steps=UNBOUND,
                batch=64,
                seconds=4 * 3600,
            ),
            size_px=128,
            amounts=Amounts(colours=1, pairs=500),
        ),
        student=replace(PRESETS["emoji"].options, iterations=UNBOUND, seconds=2340),
    ),
}


def shortened(budget: Budget, factor: float) -> Budget:
    """Give every part `factor` of its time, to rehearse a run or to make a better model."""

    def part(options: AutoencoderOptions) -> AutoencoderOptions:
        return replace(options, seconds=options.seconds * factor)

    teacher = budget.teacher
    return replace(
        budget,
        teacher=replace(
            teacher,
            autoencoder=part(teacher.autoencoder),
            lighter=part(teacher.lighter) if teacher.lighter else None,
            teacher=replace(teacher.teacher, seconds=teacher.teacher.seconds * factor),
        ),
        student=replace(budget.student, seconds=budget.student.seconds * factor),
    )
