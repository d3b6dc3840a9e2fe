"""The noise schedule and every conversion between x_t, x_0, eps and v.

    x_t = a_t x_0 + sigma_t eps,   a_t = sqrt(alpha_bar_t),   sigma_t = sqrt(1 - alpha_bar_t)

Plain NumPy: engines fold its constants, and training moves its tables to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import InvalidModel

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A DDPM schedule and the timestep at which the one-step generator is evaluated.

    a, sigma: float64 [T]; the tables indexed by timestep
    prediction_type: what the networks predict, "epsilon" or "v_prediction"
    init_timestep: t_init, 625 in SiD-LSG (sigma / a = 2.50 for Stable Diffusion's schedule)
    """

    a: NDArray[np.float64]
    sigma: NDArray[np.float64]
    betas: NDArray[np.float64]
    prediction_type: str
    init_timestep: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, init_timestep: int = 625) -> NoiseSchedule:
        """Build from a diffusers scheduler's config; an `init_timestep` inside it also counts.

        Raises InvalidModel for a beta schedule, prediction type or timestep that is not supported.
        """
        steps = int(config.get("num_train_timesteps", 1000))
        first, last = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
        kind = config.get("beta_schedule", "scaled_linear")
        if config.get("trained_betas") is not None:
            betas = np.asarray(config["trained_betas"], dtype=np.float64)
        elif kind == "scaled_linear":
            betas = np.linspace(first**0.5, last**0.5, steps, dtype=np.float64) ** 2
        elif kind == "linear":
            betas = np.linspace(first, last, steps, dtype=np.float64)
        else:
            raise InvalidModel(f"beta_schedule is {kind!r}; it must be scaled_linear or linear")
        prediction = str(config.get("prediction_type", "epsilon"))
        if prediction not in PREDICTION_TYPES:
            allowed = " or ".join(PREDICTION_TYPES)
            raise InvalidModel(f"prediction_type is {prediction!r}; it must be {allowed}")
        t_init = int(config.get("init_timestep", init_timestep))
        if not 0 <= t_init < len(betas):
            raise InvalidModel(f"init_timestep is {t_init}; it must be 0 to {len(betas) - 1}")
        alpha_bar = np.cumprod(1.0 - betas)
        return cls(np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), betas, prediction, t_init)

    @property
    def a_init(self) -> float:
        """a at t_init; 0.371173 for Stable Diffusion at 625."""
        return float(self.a[self.init_timestep])

    @property
    def sigma_init(self) -> float:
        """sigma at t_init; 0.928564 for Stable Diffusion at 625."""
        return float(self.sigma[self.init_timestep])
