"""The teacher's training loop on the CPU, as large as it must be to have every kind of layer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from distill import ema
from distill.architectures import SCHEDULE
from distill.teacher import (
    CaptionedLatents,
    TeacherOptions,
    new_text_encoder,
    new_unet,
    train_teacher,
)
from sidestep.errors import Stopped
from sidestep.schedule import NoiseSchedule

OPTIONS = TeacherOptions(
    channels=(16, 32), text_width=16, text_layers=1, steps=6, batch=2, warmup_steps=2
)


def train(out: Path) -> list[nn.Module]:
    torch.manual_seed(0)
    unet = new_unet(OPTIONS, latent_size=4).to(memory_format=torch.channels_last)
    text = new_text_encoder(OPTIONS, vocabulary=9, length=5)
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn((3, 4, 4, 4), generator=draw)
    captions = torch.randint(7, (3, 2, 5), generator=draw)
    data = CaptionedLatents(latents, captions, torch.full((5,), 8))
    return list(
        train_teacher((text, unet), data, NoiseSchedule.from_config(SCHEDULE), OPTIONS, out)
    )


@pytest.mark.parametrize("last", [3, 6], ids=["midway", "in its last step"])
def test_a_training_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Kernels are channels-last, so their moments must be when they come from a file, too."""
    unbroken = train(tmp_path / "unbroken")
    update, calls = ema.update, 0

    def asks(average: nn.Module, network: nn.Module, *, beta: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 * last:  # two networks a step
            os.kill(os.getpid(), signal.SIGTERM)
        update(average, network, beta=beta)

    monkeypatch.setattr("distill.teacher.ema.update", asks)
    with pytest.raises(Stopped, match=f"stopped after {last} of 6 steps"):
        train(tmp_path / "stopped")
    resumed = train(tmp_path / "stopped")
    for mine, theirs in zip(resumed, unbroken, strict=True):
        for key, weight in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[key], weight), key
