"""What is drawn to judge a model of emoji.

The real pictures are split into halves A and B, for ever the same. B is what everything is
compared with. The real pictures of A give the yardstick; a model draws the captions of A, so that
a perfect one would come as near to B as A does, with as many pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.quality.judge import Features, Reference
from sidestep.errors import InvalidData

SPLIT_SEED = 20_140  # of the halves; another would be another protocol
FIRST_SEED = 1_000_000  # pictures of held-out prompts and of diversity count on from here


@dataclass(frozen=True)
class Plan:
    """Prompts and seeds of every part, and the real features that belong to them.

    yardstick: features [N, D] of the pictures whose captions the prompts are
    real: features [M, D] of half B
    blurred: features [N, D] of the yardstick's pictures, blurred, where the judge has as many
    """

    prompts: list[str]
    seeds: list[int]
    yardstick: Features
    real: Features
    held_out: list[str]
    diverse: list[str]
    blurred: Features | None = None

    @property
    def held_out_seeds(self) -> list[int]:
        """One seed of its own for each held-out prompt."""
        return list(range(FIRST_SEED, FIRST_SEED + len(self.held_out)))


def make_plan(
    reference: Reference, *, images: int, held_out: Sequence[str], diverse: Sequence[str]
) -> Plan:
    """Choose `images` captions of half A; picture i has seed i.

    Names that are held out stand in neither half: a model is not asked for them as if it had seen
    them.
    Raises InvalidData if half A has not as many.
    """
    asked = np.array([name not in held_out for name in reference.names])
    halfs = halves(len(reference.names))
    first, second = (half[asked[half]] for half in halfs)
    if not 4 <= images <= len(first):
        raise InvalidData(
            f"--images is {images}; it must be from 4 to {len(first):,}, half of the real pictures"
        )
    rows = first[:images]
    blurred = None
    if reference.blurred is not None:
        blurred = reference.blurred[asked[halfs[0][: len(reference.blurred)]]][:images]
    return Plan(
        prompts=[f"{reference.names[row]}, {reference.styles[row]}" for row in rows],
        seeds=list(range(images)),
        yardstick=reference.features[rows],
        real=reference.features[second],
        held_out=list(held_out),
        diverse=list(diverse),
        blurred=blurred if blurred is not None and len(blurred) == images else None,
    )


def halves(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split 0..count-1 into two halves in random order."""
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(count)
    return order[: count // 2], order[count // 2 :]


def unseen_combinations(reference: Reference) -> list[str]:
    """List names in styles that they do not have: no picture or caption of training shows them."""
    styles = sorted(set(reference.styles))
    seen = set(zip(reference.names, reference.styles, strict=True))
    names = sorted(set(reference.names))
    return [f"{name}, {style}" for name in names for style in styles if (name, style) not in seen]


def read_held_out(path: Path) -> list[str]:
    """Read prompts, one per line; raises InvalidData where there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"--held-out {path} cannot be read ({error})") from error
    prompts = [" ".join(line.split()) for line in lines]
    prompts = list(dict.fromkeys(prompt for prompt in prompts if prompt))
    if len(prompts) < 2:
        raise InvalidData(f"--held-out {path} has fewer than 2 prompts; write one per line")
    return prompts
