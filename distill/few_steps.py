"""The generator of several steps, of which the last alone is trained.

N: steps of the schedule, t_0 > t_1 > ... > t_{N-1}   k: how many of them are run, 1 to N
z_j: the noise of step j   x_g: clean latents after a step   f_theta: the generator's x_0
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.draws import generator as draws
from distill.losses import Network, coefficients, one_step, to_x0
from sidestep.schedule import NoiseSchedule


def several_steps(generator: Network, schedule: NoiseSchedule, z: Tensor, text: Tensor) -> Tensor:
    """Run the schedule's first k steps on z [B, k, 4, h, w]: clean latents x_g [B, 4, h, w].

        x_g = f_theta(sigma_{t_0} z_0, t_0, c)
        x_g = f_theta(a_{t_j} x_g + sigma_{t_j} z_j, t_j, c),  j = 1 ... k - 1

    Gradients reach the last of these evaluations and its z alone.
    """
    k = z.shape[1]
    if k == 1:
        return one_step(generator, schedule, z[:, 0], text)
    with torch.no_grad():
        x_g = several_steps(generator, schedule, z[:, :-1], text)
    t = torch.full((len(z),), schedule.timesteps[k - 1], dtype=torch.int64, device=z.device)
    a, sigma = coefficients(schedule, t)
    x_t = a * x_g + sigma * z[:, -1]
    return to_x0(generator(x_t, t, text).float(), schedule, x_t, t)


def draw_k(seed: int, phase: str, step: int, steps: int) -> int:
    """Draw how many steps an update runs, k ~ U{1 ... steps}: one number for all processes."""
    if steps == 1:
        return 1
    return int(torch.randint(1, steps + 1, (), generator=draws(seed, phase, step)))
