"""The losses against values computed with the authors' published functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn

from distill.guidance import Guidance, strategy
from distill.losses import (
    NoisyBatch,
    fake_score_losses,
    generator_losses,
    guided,
    one_step,
    to_eps,
    to_x0,
)
from sidestep.schedule import NoiseSchedule

GOLDEN = Path(__file__).parents[1] / "golden" / "sid_lsg.safetensors"
SCHEDULE = NoiseSchedule.from_config({})
STRATEGIES = {"lsg15": strategy("lsg", 1.5), "long3": strategy("long", 3), "none": strategy("none")}


class Golden:
    def __init__(self) -> None:
        with safe_open(GOLDEN, framework="pt") as file:
            self.config = json.loads(file.metadata()["unet_config"])
            self.values = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def unet(self, name: str) -> UNet2DConditionModel:
        unet = UNet2DConditionModel(**self.config)
        prefix = f"{name}/"
        unet.load_state_dict(
            {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)}
        )
        return unet

    def batch(self, x_g: Tensor) -> NoisyBatch:
        v = self.values
        return NoisyBatch(x_g, v["noise"], v["t"], v["cond"], v["uncond"])


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


def network(unet: nn.Module) -> Any:
    return lambda x, t, text: unet(x, t, text).sample


def gradient_norm(module: nn.Module) -> float:
    norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(norms).square().sum().sqrt())


def test_one_step_equals_the_authors(golden: Golden) -> None:
    v = golden.values
    x_g = one_step(network(golden.unet("theta")), SCHEDULE, v["z"], v["cond"])
    torch.testing.assert_close(x_g, v["x_g"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_fake_score_loss_and_gradients_equal_the_authors(golden: Golden, name: str) -> None:
    psi = golden.unet("psi")
    batch = golden.batch(golden.values["x_g"])
    loss = fake_score_losses(network(psi), SCHEDULE, batch, STRATEGIES[name]).mean()
    loss.backward()
    torch.testing.assert_close(loss, golden.values[f"{name}.fake_loss"].float(), rtol=1e-4, atol=0)
    norm = float(golden.values[f"{name}.fake_grad_norm"])
    assert gradient_norm(psi) == pytest.approx(norm, rel=1e-4)
    expected = golden.values[f"{name}.fake_grad_conv_in"]
    torch.testing.assert_close(psi.conv_in.weight.grad, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", STRATEGIES)
def test_generator_loss_and_gradients_equal_the_authors(golden: Golden, name: str) -> None:
    v = golden.values
    theta, psi, phi = (golden.unet(n) for n in ("theta", "psi", "phi"))
    psi.requires_grad_(False)
    phi.requires_grad_(False)
    x_g = one_step(network(theta), SCHEDULE, v["z"], v["cond"])
    batch = golden.batch(x_g)
    losses = generator_losses(network(psi), network(phi), SCHEDULE, batch, STRATEGIES[name])
    loss = losses.mean()
    loss.backward()
    torch.testing.assert_close(loss, v[f"{name}.a1.0.gen_loss"].float(), rtol=1e-4, atol=1e-3)
    assert gradient_norm(theta) == pytest.approx(float(v[f"{name}.a1.0.gen_grad_norm"]), rel=1e-4)
    expected = v[f"{name}.a1.0.gen_grad_conv_in"]
    torch.testing.assert_close(theta.conv_in.weight.grad, expected, rtol=1e-3, atol=1e-3)


def test_guidance_at_one_and_zero_evaluates_one_side_only(golden: Golden) -> None:
    batch = golden.batch(golden.values["x_g"])
    seen: list[Tensor] = []

    def spy(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        seen.append(text)
        return x_t * text.mean(dim=(1, 2))[:, None, None, None]

    x_t = batch.x_t(SCHEDULE)
    (conditional,) = guided(spy, x_t, batch, (1,))
    (unconditional,) = guided(spy, x_t, batch, (0,))
    assert [len(text) for text in seen] == [5, 5]
    mixed, same = guided(spy, x_t, batch, (2.5, 1))
    assert len(seen) == 3
    torch.testing.assert_close(mixed, unconditional + 2.5 * (conditional - unconditional))
    torch.testing.assert_close(same, conditional)


def test_kappa2_and_kappa3_enter_different_factors(golden: Golden) -> None:
    """At alpha = 1 the loss is (y_real - y_fake[kappa2]) . (y_fake[kappa3] - x_g) / omega."""
    psi, phi = network(golden.unet("psi")), network(golden.unet("phi"))
    batch = golden.batch(golden.values["x_g"])
    guidance = Guidance(1, 0.5, 2.0, 3.0)
    with torch.no_grad():
        loss = generator_losses(psi, phi, SCHEDULE, batch, guidance).mean()
        x_t, t = batch.x_t(SCHEDULE), batch.t
        fakes = guided(psi, x_t, batch, (0.5, 2.0))
        y2, y3 = (to_x0(p, SCHEDULE, x_t, t) for p in fakes)
        y_real = to_x0(guided(phi, x_t, batch, (3.0,))[0], SCHEDULE, x_t, t)
    per_image = [
        ((y_real[i] - y2[i]) * (y3[i] - batch.x_g[i])).sum()
        / (batch.x_g[i] - y_real[i]).abs().mean()
        for i in range(5)
    ]
    torch.testing.assert_close(loss, torch.stack(per_image).mean(), rtol=1e-4, atol=1e-2)


def test_v_prediction_gives_the_same_losses_as_epsilon(golden: Golden) -> None:
    v_schedule = NoiseSchedule.from_config({"prediction_type": "v_prediction"})

    def as_v(eps_network: Any) -> Any:
        def predict(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
            a = torch.from_numpy(v_schedule.a).float()[t, None, None, None]
            sigma = torch.from_numpy(v_schedule.sigma).float()[t, None, None, None]
            return (eps_network(x_t, t, text) - sigma * x_t) / a  # eps = sigma x_t + a v

        return predict

    psi, phi = network(golden.unet("psi")), network(golden.unet("phi"))
    batch, guidance = golden.batch(golden.values["x_g"]), strategy("lsg", 1.5)
    with torch.no_grad():
        by_eps = fake_score_losses(psi, SCHEDULE, batch, guidance).mean()
        by_v = fake_score_losses(as_v(psi), v_schedule, batch, guidance).mean()
        torch.testing.assert_close(by_v, by_eps, rtol=1e-4, atol=0)
        by_eps = generator_losses(psi, phi, SCHEDULE, batch, guidance).mean()
        by_v = generator_losses(as_v(psi), as_v(phi), v_schedule, batch, guidance).mean()
        torch.testing.assert_close(by_v, by_eps, rtol=1e-3, atol=1e-2)
        x_t, t = batch.x_t(SCHEDULE), batch.t
        prediction = as_v(psi)(x_t, t, batch.text)
        torch.testing.assert_close(
            to_eps(prediction, v_schedule, x_t, t), psi(x_t, t, batch.text), rtol=1e-3, atol=1e-4
        )


def test_no_gradient_reaches_the_generator_from_the_fake_score_loss(golden: Golden) -> None:
    x_g = golden.values["x_g"].clone().requires_grad_(True)
    losses = fake_score_losses(
        network(golden.unet("psi")), SCHEDULE, golden.batch(x_g), strategy("lsg", 1.5)
    )
    losses.mean().backward()
    assert x_g.grad is None
