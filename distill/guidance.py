"""Where classifier-free guidance enters SiD-LSG: kappa1 to kappa4, and the strategies by name."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from sidestep.errors import InvalidTraining


@dataclass(frozen=True)
class Guidance:
    """Where classifier-free guidance enters, and how strongly.

    kappa1: the fake score while it is trained; kappa2, kappa3: the fake score while it judges
    (the difference and the inner product of equation 8); kappa4: the teacher; alpha: section 3.2
    """

    kappa1: float
    kappa2: float
    kappa3: float
    kappa4: float
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Raise InvalidTraining for a scale that is no finite number."""
        for name, scale in asdict(self).items():
            if not math.isfinite(scale):
                raise InvalidTraining(f"{name} is {scale}; choose a finite number")

    @property
    def drops_prompts(self) -> bool:
        """Whether the fake score needs to know '' as well: 10% of its prompts are emptied then."""
        return self.kappa1 != 1 or self.kappa2 != 1 or self.kappa3 != 1


UNSCALED = ("none", "zero-cfg")  # strategies that know no kappa
STRATEGIES = ("none", "long", "short", "simplest", "lsg", "zero-cfg", "anti-cfg")


def strategy(name: str, kappa: float = 1.5) -> Guidance:
    """Return a named strategy of the paper (section 4, Table 4) at scale `kappa`.

    none: no guidance; long: the teacher only; short: the fake score's judgement only, kappa < 1;
    simplest: the fake score's training only; lsg: everywhere (the default); zero-cfg, anti-cfg:
    the later paper's, with kappa 0 or negative.

    Raises InvalidTraining for a scale below 0 outside anti-cfg, for one that is not below 1 of
    short, and for one that is not finite; KeyError for another name.
    """
    if name == "short" and kappa >= 1:
        raise InvalidTraining(
            f"--kappa {kappa:g} is too much for --strategy short; choose it below 1, such as 0.5"
        )
    if kappa < 0 and name != "anti-cfg":
        raise InvalidTraining(
            f"--kappa {kappa:g} is below 0, which only --strategy anti-cfg knows; choose 0 or more"
        )
    return {
        "none": Guidance(1, 1, 1, 1),
        "long": Guidance(1, 1, 1, kappa),
        "short": Guidance(1, kappa, kappa, 1),
        "simplest": Guidance(kappa, 1, 1, 1),
        "lsg": Guidance(kappa, kappa, kappa, kappa),
        "zero-cfg": Guidance(0, 0, 0, 1),
        "anti-cfg": Guidance(-abs(kappa), -abs(kappa), -abs(kappa), 1),
    }[name]
