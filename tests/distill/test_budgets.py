"""The budgets' networks have the shapes and sizes that the embedded model is to have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill.adversary import PatchDiscriminator
from distill.autoencoder import new_autoencoder, reconstruction_loss
from distill.budgets import BUDGETS, Budget, shortened
from distill.teacher import new_text_encoder, new_unet

MIB = 2**20


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_latents_are_16_by_16_and_fit_from_part_to_part(budget: Budget) -> None:
    teacher = budget.teacher
    with torch.device("meta"):
        x = torch.empty(2, 3, 128, 128)
        for options in (teacher.autoencoder, teacher.shipped):
            vae = new_autoencoder(options, size_px=128)
            latents = vae.encode(x).latent_dist.mean
            assert latents.shape == (2, 4, 16, 16)
            y = vae.decode(latents).sample
            assert y.shape == x.shape
        assert PatchDiscriminator()(y).shape == (2, 1, 16, 16)
        assert reconstruction_loss(x, y, edge_weight=1).shape == ()
        text = new_text_encoder(teacher.teacher, vocabulary=4096, length=24)
        words = text(torch.zeros(2, 24, dtype=torch.int64)).last_hidden_state
        unet = new_unet(teacher.teacher, latent_size=16)
        t = torch.zeros(2, dtype=torch.int64)
        assert unet(latents, t, words).sample.shape == latents.shape


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_the_teacher_and_three_students_leave_room_for_graphs(budget: Budget) -> None:
    """fp16: the UNet of teacher and three students, and what they share, once; 40 MiB in all."""
    with torch.device("meta"):
        networks = {
            "vae": new_autoencoder(budget.teacher.shipped, size_px=128),
            "text": new_text_encoder(budget.teacher.teacher, vocabulary=4096, length=24),
            "unet": new_unet(budget.teacher.teacher, latent_size=16),
        }
    mib = {
        name: 2 * sum(weight.numel() for weight in network.parameters()) / MIB
        for name, network in networks.items()
    }
    judge, graphs = 4.8, 5
    assert 4 * mib["unet"] + mib["text"] + mib["vae"] + judge + graphs < 40


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_a_rehearsal_is_shorter_in_every_part(budget: Budget) -> None:
    short = shortened(budget, 0.01)
    assert short.seconds == pytest.approx(budget.seconds / 100)
    assert replace(short.teacher.teacher, seconds=0) == replace(budget.teacher.teacher, seconds=0)


def test_the_gpus_training_leaves_time_for_the_rest() -> None:
    """Of 25 minutes, for reading, composing, encoding and exporting."""
    assert BUDGETS["gpu"].seconds <= 20.5 * 60
