from __future__ import annotations

import numpy as np
import pytest

from sidestep.errors import InvalidModel
from sidestep.schedule import NoiseSchedule


def test_stable_diffusions_constants_at_625() -> None:
    schedule = NoiseSchedule.from_config({})
    assert schedule.a_init == pytest.approx(0.371173, abs=1e-6)
    assert schedule.sigma_init == pytest.approx(0.928564, abs=1e-6)
    assert schedule.sigma_init / schedule.a_init == pytest.approx(2.5017, abs=1e-4)
    np.testing.assert_allclose(schedule.a**2 + schedule.sigma**2, 1)


def test_the_schedule_equals_diffusers() -> None:
    from diffusers import DDPMScheduler

    for kind in ("scaled_linear", "linear"):
        config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": kind}
        theirs = DDPMScheduler(**config).alphas_cumprod.numpy()
        np.testing.assert_allclose(NoiseSchedule.from_config(config).a ** 2, theirs, rtol=1e-4)


def test_a_timestep_in_the_config_counts() -> None:
    assert NoiseSchedule.from_config({"init_timestep": 400}).init_timestep == 400
    assert NoiseSchedule.from_config({}, init_timestep=300).init_timestep == 300


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"beta_schedule": "squaredcos"}, "beta_schedule is 'squaredcos'"),
        ({"prediction_type": "sample"}, "must be epsilon or v_prediction"),
        ({"init_timestep": 1000}, "must be 0 to 999"),
    ],
)
def test_what_is_not_supported_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        NoiseSchedule.from_config(config)
