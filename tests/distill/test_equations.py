"""The losses against a second writing of equations 7 to 9: float64, one picture at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from distill.ema import half_life_beta
from distill.guidance import Guidance, strategy
from distill.losses import NoisyBatch, fake_score_losses, generator_losses
from sidestep.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
GUIDANCES = {
    "short": strategy("short", 0.5),
    "simplest": strategy("simplest", 2),
    "zero-cfg": strategy("zero-cfg"),
    "anti-cfg": strategy("anti-cfg", 0.5),
    "lsg, alpha 1.2": Guidance(1.5, 1.5, 1.5, 1.5, alpha=1.2),
    "long, alpha 1.2": Guidance(1, 1, 1, 3, alpha=1.2),
    "all different": Guidance(0.5, 2, 1.25, 3, alpha=0.8),
}
Predict = Callable[[Tensor, int, Tensor], Tensor]  # one picture, its timestep, one text


@pytest.mark.parametrize(
    ("name", "kappa", "scales"),
    [
        ("short", 0.5, (1, 0.5, 0.5, 1)),
        ("simplest", 2, (2, 1, 1, 1)),
        ("zero-cfg", 1, (0, 0, 0, 1)),
        ("anti-cfg", 2, (-2, -2, -2, 1)),
        ("anti-cfg", -2, (-2, -2, -2, 1)),
    ],
)
def test_strategies_are_those_of_the_table(
    name: str, kappa: float, scales: tuple[float, ...]
) -> None:
    """docs/sid-lsg.md; LSG, long and none are held by the authors' values."""
    assert strategy(name, kappa) == Guidance(*scales)


def alpha_bar(t: int) -> float:
    """The running product of 1 - beta, betas linear in their square roots."""
    first, last = math.sqrt(0.00085), math.sqrt(0.012)
    return math.prod(1 - (first + (last - first) * i / 999) ** 2 for i in range(t + 1))


def guided(network: Predict, x_t: Tensor, t: int, texts: tuple[Tensor, Tensor], k: float) -> Tensor:
    c, null = texts
    return network(x_t, t, null) + k * (network(x_t, t, c) - network(x_t, t, null))


def transcribed(
    psi: Predict, phi: Predict, batch: NoisyBatch, g: Guidance
) -> tuple[Tensor, Tensor]:
    """Both losses as the paper has them, averaged over the batch."""
    fake, generator = [], []
    for i in range(len(batch.x_g)):
        x_g, eps, t = batch.x_g[i], batch.noise[i], int(batch.t[i])
        texts = (batch.text[i], batch.null_text[0])
        a, sigma = math.sqrt(alpha_bar(t)), math.sqrt(1 - alpha_bar(t))
        x_t = a * x_g + sigma * eps

        def f(network: Predict, k: float, x_t: Tensor = x_t, t: int = t) -> Tensor:
            return (x_t - sigma * guided(network, x_t, t, texts, k)) / a  # noqa: B023

        fake.append(((guided(psi, x_t, t, texts, g.kappa1) - eps) ** 2).sum())
        real, fake2, fake3 = f(phi, g.kappa4), f(psi, g.kappa2), f(psi, g.kappa3)
        omega = (x_g - real).detach().abs().mean()
        inner = (real - x_g) - g.alpha * (real - fake3)
        generator.append(((real - fake2) * inner).sum() / omega)
    return torch.stack(fake).mean(), torch.stack(generator).mean()


@pytest.fixture(scope="module")
def networks() -> tuple[UNet2DConditionModel, UNet2DConditionModel]:
    """A fake score and a teacher, untrained and unlike each other."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        made.append(unet.eval().requires_grad_(False))
    return made[0], made[1]


@pytest.fixture
def batch() -> NoisyBatch:
    source = torch.Generator().manual_seed(3)
    shapes = ((3, 4, 8, 8), (3, 4, 8, 8), (3, 6, 24), (1, 6, 24))
    x_g, noise, text, null = (torch.randn(shape, generator=source) for shape in shapes)
    return NoisyBatch(x_g, noise, torch.tensor([20, 500, 979]), text, null)


def double(batch: NoisyBatch) -> NoisyBatch:
    return NoisyBatch(
        batch.x_g.detach().double().requires_grad_(True),
        batch.noise.double(),
        batch.t,
        batch.text.double(),
        batch.null_text.double(),
    )


def alone(unet: UNet2DConditionModel) -> Predict:
    exact = copy.deepcopy(unet).double()
    return lambda x, t, text: exact(x[None], torch.tensor([t]), text[None]).sample[0]


@pytest.mark.parametrize("name", GUIDANCES)
def test_losses_and_gradients_are_the_equations(
    networks: tuple[UNet2DConditionModel, UNet2DConditionModel], batch: NoisyBatch, name: str
) -> None:
    guidance = GUIDANCES[name]
    batch.x_g.requires_grad_(True)
    psi, phi = ((lambda x, t, text, u=unet: u(x, t, text).sample) for unet in networks)
    fake = fake_score_losses(psi, SCHEDULE, batch, guidance).mean()
    generator = generator_losses(psi, phi, SCHEDULE, batch, guidance).mean()
    (gradient,) = torch.autograd.grad(generator, batch.x_g)

    exact = double(batch)
    wanted_fake, wanted = transcribed(*(alone(unet) for unet in networks), exact, guidance)
    (wanted_gradient,) = torch.autograd.grad(wanted, exact.x_g)
    torch.testing.assert_close(fake.double(), wanted_fake, rtol=1e-4, atol=0)
    torch.testing.assert_close(generator.double(), wanted, rtol=1e-4, atol=0)
    error = torch.linalg.vector_norm(gradient.double() - wanted_gradient)
    assert error <= 1e-4 * torch.linalg.vector_norm(wanted_gradient)


def test_the_average_is_its_closed_form() -> None:
    """average_n = sum over i of (1 - beta_i) w_i times the product of later betas."""
    from distill import ema

    weights = [torch.nn.Linear(3, 2) for _ in range(6)]
    average = ema.average_of(weights[0])
    betas = [half_life_beta(64 * i, batch=64, half_life_images=100) for i in range(6)]
    for network, beta in zip(weights, betas, strict=True):
        ema.update(average, network, beta=beta)
    wanted = sum(
        (1 - beta) * math.prod(betas[i + 1 :]) * weights[i].weight.detach().double()
        for i, beta in enumerate(betas)
    )
    assert betas[0] == 0
    torch.testing.assert_close(average.weight.double(), wanted, rtol=1e-5, atol=1e-7)
