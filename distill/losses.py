"""The two losses of SiD-LSG as pure functions (Zhou et al., 2024, section 3).

Networks are callables (x_t [B, 4, h, w], t int64 [B], text [B, L, D]) -> prediction like x_t.
a_t, sigma_t: the schedule's coefficients   x_t = a_t x_g + sigma_t eps
kappa1..kappa4: guidance scales (equations 7 and 8)   x_g: the generator's clean latents
Losses are summed over C, H, W and one for each picture, [B]; the loop averages them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from distill.guidance import Guidance
from sidestep.schedule import NoiseSchedule

Network = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class NoisyBatch:
    """Generated latents and the noise they are judged under.

    x_g, noise: [B, 4, h, w]; t: int64 [B]; text: [B, L, D]; null_text: [1, L, D], the text ''
    """

    x_g: Tensor
    noise: Tensor
    t: Tensor
    text: Tensor
    null_text: Tensor

    def x_t(self, schedule: NoiseSchedule) -> Tensor:
        """Compute the noisy latents x_t = a_t x_g + sigma_t eps."""
        a, sigma = coefficients(schedule, self.t)
        return a * self.x_g + sigma * self.noise


@lru_cache(maxsize=8)
def _tables(schedule: NoiseSchedule, device: torch.device) -> tuple[Tensor, Tensor]:
    a, sigma = (
        torch.from_numpy(table).float().to(device) for table in (schedule.a, schedule.sigma)
    )
    return a, sigma


def coefficients(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Look up a_t and sigma_t as [B, 1, 1, 1], fp32, without a host sync."""
    a, sigma = _tables(schedule, t.device)
    return a[t, None, None, None], sigma[t, None, None, None]


def to_eps(prediction: Tensor, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
    """Turn a network's prediction into eps; v-prediction: eps = sigma_t x_t + a_t v."""
    if schedule.prediction_type == "epsilon":
        return prediction
    a, sigma = coefficients(schedule, t)
    return sigma * x_t + a * prediction


def to_x0(prediction: Tensor, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
    """Turn a network's prediction into clean latents.

    eps: x_0 = (x_t - sigma_t eps) / a_t;  v: x_0 = a_t x_t - sigma_t v
    """
    a, sigma = coefficients(schedule, t)
    if schedule.prediction_type == "epsilon":
        return (x_t - sigma * prediction) / a
    return a * x_t - sigma * prediction


def guided(
    network: Network, x_t: Tensor, batch: NoisyBatch, kappas: tuple[float, ...]
) -> tuple[Tensor, ...]:
    """Predict at every guidance scale: f(∅) + kappa (f(c) - f(∅)), in fp32 (equation 6).

    Each of f(c) and f(∅) is evaluated once at most, and both in one call where both are needed:
    kappa = 1 needs the conditional alone, kappa = 0 the unconditional alone.
    """
    null_text = batch.null_text.expand(len(x_t), -1, -1)
    if set(kappas) == {1}:
        conditional = network(x_t, batch.t, batch.text).float()
        return tuple(conditional for _ in kappas)
    if set(kappas) == {0}:
        unconditional = network(x_t, batch.t, null_text).float()
        return tuple(unconditional for _ in kappas)
    twice = (torch.cat([x_t, x_t]), torch.cat([batch.t, batch.t]))
    both = network(*twice, torch.cat([null_text, batch.text])).float()
    unconditional, conditional = both.chunk(2)
    return tuple(unconditional + k * (conditional - unconditional) for k in kappas)


def one_step(generator: Network, schedule: NoiseSchedule, z: Tensor, text: Tensor) -> Tensor:
    """x_g = f_theta(sigma z, t_init, c): clean latents in one evaluation (equation 9)."""
    t = torch.full((len(z),), schedule.init_timestep, dtype=torch.int64, device=z.device)
    x_t = schedule.sigma_init * z
    return to_x0(generator(x_t, t, text).float(), schedule, x_t, t)


def fake_score_losses(
    fake_score: Network, schedule: NoiseSchedule, batch: NoisyBatch, guidance: Guidance
) -> Tensor:
    """|| eps_psi,kappa1(x_t, t, c) - eps ||^2 of each generated picture, [B] (equation 7).

    x_g is taken as data: no gradient reaches the generator. For v-prediction this is
    (v_hat - v)^2 SNR / (SNR + 1), the same number.
    """
    x_t = batch.x_t(schedule).detach()
    (prediction,) = guided(fake_score, x_t, batch, (guidance.kappa1,))
    eps = to_eps(prediction, schedule, x_t, batch.t)
    return (eps - batch.noise).square().sum((1, 2, 3))


def generator_losses(
    fake_score: Network,
    teacher: Network,
    schedule: NoiseSchedule,
    batch: NoisyBatch,
    guidance: Guidance,
    *,
    adversarial: Tensor | None = None,
) -> Tensor:
    """(y_real - y_fake)^T [(y_real - x_g) - alpha (y_real - y_fake)] / omega of each picture, [B].

    Equations 8 and 9: y_real = f_phi,kappa4(x_t), y_fake = f_psi,kappa2(x_t) in the first factor
    and f_psi,kappa3(x_t) in the second; omega = mean |x_g - y_real| per image, without gradient.
    adversarial: weighted losses [B]; half of the above plus C H W / omega of these are returned
        then, as SiDA does (`distill.adversarial`)
    Gradients flow through x_g, y_fake and y_real: freeze the two networks' own weights, not this
    graph.
    """
    x_g, x_t, t = batch.x_g, batch.x_t(schedule), batch.t
    outer, inner = guided(fake_score, x_t, batch, (guidance.kappa2, guidance.kappa3))
    (real,) = guided(teacher, x_t, batch, (guidance.kappa4,))
    y_fake2, y_fake3, y_real = (to_x0(p, schedule, x_t, t) for p in (outer, inner, real))
    omega = (x_g - y_real).detach().abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-5)
    products = (y_real - y_fake2) * ((y_real - x_g) - guidance.alpha * (y_real - y_fake3))
    distilled = (products / omega).sum((1, 2, 3))
    if adversarial is None:
        return distilled
    return 0.5 * distilled + x_g[0].numel() / omega[:, 0, 0, 0] * adversarial
