"""Every setting of a decoder's distillation; importing this needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distill.settings import check, setting


@dataclass(frozen=True)
class DecoderOptions:
    """How a small decoder is built and trained; the defaults are TAESD's size.

    Raises InvalidTraining for a setting out of its bounds.
    """

    channels: int = setting(64, "Channels of every layer.", at_least=4, at_most=512)
    blocks: int = setting(
        3, "Residual blocks at each size but the last, which has one.", at_least=1, at_most=8
    )
    steps: int = setting(10_000, "Updates.", at_least=1)
    batch: int = setting(8, "Pictures per update.", at_least=1)
    learning_rate: float = setting(1e-3, "At its highest.", at_least=0.0)
    warmup_steps: int = setting(100, "Updates until it is reached.", at_least=0)
    edge_weight: float = setting(0.5, "Of the edges' distance in the loss.", at_least=0.0)
    held_out: int = setting(16, "Latents that PSNR is measured on.", at_least=1, at_most=1024)
    checkpoint_every: int = setting(250, "Updates between two checkpoints.", at_least=1)
    seed: int = setting(0, "Of all draws.")

    def __post_init__(self) -> None:
        check(self)

    @property
    def identity(self) -> dict[str, Any]:
        """What a resume must not change."""
        return {key: value for key, value in asdict(self).items() if key != "checkpoint_every"}
