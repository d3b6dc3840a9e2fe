"""Random draws that depend on (seed, step) alone.

No generator state outlives a step, so a run that was killed and resumed draws what an unbroken
run would have drawn, and a changed batch size of one draw never shifts another.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *labels: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for one purpose, for example `generator(0, "teacher", step)`.

    device: where it draws; a GPU's numbers are not a CPU's
    """
    text = "/".join(map(str, (seed, *labels)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big", signed=True))
