"""Every setting of a distillation; importing this needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from distill.guidance import Guidance, strategy
from distill.settings import check, setting
from sidestep.errors import InvalidTraining
from sidestep.schedule import MOST_STEPS

# What does not change the weights that a run arrives at: a resume may change it.
FREE = (
    "iterations",
    "seconds",
    "per_device_batch",
    "recompute",
    "compile",
    "parallel",
    "text_cache_gib",
    "real_images",  # a run belongs to their latents instead
    "checkpoint_every",
    "keep_checkpoints",
)


@dataclass(frozen=True)
class DistillOptions:
    """How a student is distilled; the defaults suit a small one, `distill.presets` has recipes.

    Raises InvalidTraining for a setting out of its bounds.
    """

    guidance: Guidance = field(default_factory=lambda: strategy("lsg", 2))
    init_timestep: int = setting(
        625, "Timestep of the generator's first evaluation.", at_least=0, at_most=999
    )
    steps: int = setting(
        1, "Evaluations of the generator per picture.", at_least=1, at_most=MOST_STEPS
    )
    iterations: int = setting(
        600, "Updates of the generator, each after one of the fake score.", at_least=1
    )
    seconds: float = setting(
        0.0, "End after this long where `iterations` take longer; 0: no bound.", at_least=0.0
    )
    batch: int = setting(64, "Images per update, over all devices.", at_least=1)
    per_device_batch: int = setting(
        0, "Images per pass and device; 0: a device's whole share at once.", at_least=0
    )
    learning_rate: float = setting(
        5e-5, "Of both networks; the paper's 1e-6 is for 860M parameters.", at_least=0.0
    )
    ema_half_life: int = setting(
        50_000, "Images after which the average forgot half; 0: no average.", at_least=0
    )
    precision: str = setting(
        "bf16",
        "bf16 and fp16 keep fp32 weights; fp16-weights is the paper's fp16; fp32 is exact.",
        choices=("fp32", "bf16", "fp16", "fp16-weights"),
    )
    real_images: str = setting(
        "", "Folder of pictures, without captions, for an adversarial term beside the loss (SiDA)."
    )
    adversarial_weight: float = setting(
        1e-3, "Of the generator's adversarial term, where there are --real-images.", at_least=0.0
    )
    recompute: bool = setting(False, "Save memory: compute activations again in backward passes.")
    compile: bool = setting(False, "Compile the networks with torch.compile first.")
    parallel: str = setting(
        "ddp",
        "Under torchrun: ddp copies the networks to every device, fsdp shards them.",
        choices=("ddp", "fsdp"),
    )
    text_cache_gib: float = setting(
        32.0,
        "Most disk for the prompts' embeddings; beyond it they are encoded as they are drawn.",
        at_least=0.0,
    )
    checkpoint_every: int = setting(50, "Updates between two checkpoints.", at_least=1)
    keep_checkpoints: int = setting(2, "Newest checkpoints that are kept.", at_least=1)
    seed: int = setting(0, "Of all draws.")

    def __post_init__(self) -> None:
        check(self)
        if 1 < self.steps > self.init_timestep:
            raise InvalidTraining(
                f"--steps {self.steps} is above --init-timestep {self.init_timestep}, the most"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What a resume must not change; a longer run is the same run.

        What is off goes unsaid, as it did before it could be on: older runs can be gone on with.
        """
        off = {"steps": self.steps == 1, "adversarial_weight": not self.real_images}
        free = {*FREE, *(name for name, is_off in off.items() if is_off)}
        return {key: value for key, value in asdict(self).items() if key not in free}
