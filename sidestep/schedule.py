"""The noise schedule and every conversion between x_t, x_0, eps and v.

    x_t = a_t x_0 + sigma_t eps,   a_t = sqrt(alpha_bar_t),   sigma_t = sqrt(1 - alpha_bar_t)

Plain NumPy: engines fold its constants, and training moves its tables to the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import InvalidModel

PREDICTION_TYPES = ("epsilon", "v_prediction")
MOST_STEPS = 8


def noise_shape(latent_shape: tuple[int, int, int], steps: int) -> tuple[int, ...]:
    """Return the shape of one picture's noise: (4, h, w) for one step, (N, 4, h, w) for N."""
    return latent_shape if steps == 1 else (steps, *latent_shape)


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A DDPM schedule and the timesteps at which the generator is evaluated.

    a, sigma: float64 [T]; the tables indexed by timestep
    prediction_type: what the networks predict, "epsilon" or "v_prediction"
    init_timestep: t_init, 625 in SiD-LSG (sigma / a = 2.50 for Stable Diffusion's schedule)
    steps: how often the generator is evaluated, 1 to 8
    """

    a: NDArray[np.float64]
    sigma: NDArray[np.float64]
    betas: NDArray[np.float64]
    prediction_type: str
    init_timestep: int
    steps: int = 1

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, init_timestep: int = 625, steps: int = 1
    ) -> NoiseSchedule:
        """Build from a diffusers scheduler's config; an `init_timestep` inside it also counts.

        Raises InvalidModel for a beta schedule, prediction type, timestep or number of steps that
        is not supported.
        """
        count = int(config.get("num_train_timesteps", 1000))
        first, last = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
        kind = config.get("beta_schedule", "scaled_linear")
        if config.get("trained_betas") is not None:
            betas = np.asarray(config["trained_betas"], dtype=np.float64)
        elif kind == "scaled_linear":
            betas = np.linspace(first**0.5, last**0.5, count, dtype=np.float64) ** 2
        elif kind == "linear":
            betas = np.linspace(first, last, count, dtype=np.float64)
        else:
            raise InvalidModel(f"beta_schedule is {kind!r}; it must be scaled_linear or linear")
        prediction = str(config.get("prediction_type", "epsilon"))
        if prediction not in PREDICTION_TYPES:
            allowed = " or ".join(PREDICTION_TYPES)
            raise InvalidModel(f"prediction_type is {prediction!r}; it must be {allowed}")
        t_init = int(config.get("init_timestep", init_timestep))
        if not 0 <= t_init < len(betas):
            raise InvalidModel(f"init_timestep is {t_init}; it must be 0 to {len(betas) - 1}")
        if not 1 <= steps <= MOST_STEPS:
            raise InvalidModel(f"steps is {steps}; it must be 1 to {MOST_STEPS}")
        if 1 < steps > t_init:
            raise InvalidModel(f"steps is {steps}; it must be at most init_timestep, {t_init}")
        alpha_bar = np.cumprod(1.0 - betas)
        return cls(np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), betas, prediction, t_init, steps)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """t_j = floor(t_init (1 - j / N)), j = 0 ... N - 1; 625, 468, 312, 156 for four steps."""
        n = self.steps
        return tuple(self.init_timestep * (n - j) // n for j in range(n))

    @property
    def a_init(self) -> float:
        """a at t_init; 0.371173 for Stable Diffusion at 625."""
        return float(self.a[self.init_timestep])

    @property
    def sigma_init(self) -> float:
        """sigma at t_init; 0.928564 for Stable Diffusion at 625."""
        return float(self.sigma[self.init_timestep])

    def clean(self, x_t: Any, predicted: Any, t: int) -> Any:
        """Turn a prediction at timestep t into clean latents; NumPy arrays or torch tensors.

        eps: x_0 = (x_t - sigma_t eps) / a_t;  v: x_0 = a_t x_t - sigma_t v
        """
        a, sigma = float(self.a[t]), float(self.sigma[t])
        if self.prediction_type == "v_prediction":
            return a * x_t - sigma * predicted
        return (x_t - sigma * predicted) / a

    def draw(self, noise: Any, predict: Callable[[Any, int], Any]) -> Any:
        """Evaluate the generator once per timestep: clean latents x_g [B, 4, h, w].

        Of NumPy arrays or of torch tensors.
        noise: z [B, 4, h, w] for one step, [B, N, 4, h, w] for N; fresh noise for each step
        predict: x_t [B, 4, h, w] and j -> what the network predicts at timesteps[j]

            x_t = sigma_{t_0} z_0,  then x_t = a_{t_j} x_g + sigma_{t_j} z_j;  x_g = f(x_t, t_j)
        """
        z_0, *fresh = [noise] if self.steps == 1 else [noise[:, j] for j in range(self.steps)]
        x_t = self.sigma_init * z_0
        x_g = self.clean(x_t, predict(x_t, 0), self.init_timestep)
        for j, z in enumerate(fresh, 1):
            t = self.timesteps[j]
            x_t = float(self.a[t]) * x_g + float(self.sigma[t]) * z
            x_g = self.clean(x_t, predict(x_t, j), t)
        return x_g
