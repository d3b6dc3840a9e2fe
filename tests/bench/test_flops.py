"""Operations against the published architectures' known counts, and against each other."""

from __future__ import annotations

import pytest
import torch

from bench.flops import count_flops, network_flops
from bench.peak import measure_peak
from distill.architectures import ARCHITECTURES, TOKENS
from distill.random_model import builders
from sidestep.model_folder import ModelFolder


@pytest.mark.parametrize(
    ("name", "gflop"),
    [
        ("sd15", {"text": 13, "unet": 803, "decoder": 2515}),
        ("sd21-base", {"text": 45, "unet": 804, "decoder": 2515}),
    ],
)
def test_stable_diffusions_operations(name: str, gflop: dict[str, int]) -> None:
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        networks = [build() for build in builders(architecture).values()]
    counted = network_flops(*networks, TOKENS, architecture.latent_shape)
    assert {stage: round(flops / 1e9) for stage, flops in counted.items()} == gflop


def test_a_folder_is_counted_by_its_configs_alone(tiny_model: ModelFolder) -> None:
    whole = count_flops(tiny_model)
    for weights in tiny_model.path.rglob("*.safetensors"):
        weights.unlink()
    assert count_flops(tiny_model) == whole
    assert min(whole.values()) > 0


def test_the_peak_of_fp32_is_not_that_of_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def rate(*_: object) -> float:
        seen.append(torch.backends.cudnn.allow_tf32)
        return 1.0

    monkeypatch.setattr("bench.peak._rate", rate)
    measure_peak("fp32", device="cpu", threads=1, seconds=0)
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32


def test_a_peak_is_positive() -> None:
    peak = measure_peak("fp32", device="cpu", threads=1, seconds=0.01)
    assert min(peak.values()) > 0
