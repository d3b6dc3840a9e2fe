"""Random draws that depend on (seed, step) alone.

No generator state outlives a step, so a run that was killed and resumed draws what an unbroken
run would have drawn, and a changed batch size of one draw never shifts another.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *labels: int | str) -> torch.Generator:
    """Return a CPU generator for one purpose, for example `generator(0, "teacher", step)`."""
    text = "/".join(map(str, (seed, *labels)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
