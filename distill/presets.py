"""Guidance strategies and recipes as tables, with the published results beside them."""

from __future__ import annotations

from distill.losses import Guidance


def strategy(name: str, kappa: float = 1.5) -> Guidance:
    """Return a named strategy of the paper (section 4, Table 4) at scale `kappa`.

    none: no guidance; long: the teacher only; short: the fake score's judgement only, kappa < 1;
    simplest: the fake score's training only; lsg: everywhere (the default); zero-cfg, anti-cfg:
    the later paper's, with kappa 0 or negative. Raises KeyError for another name.
    """
    return {
        "none": Guidance(1, 1, 1, 1),
        "long": Guidance(1, 1, 1, kappa),
        "short": Guidance(1, kappa, kappa, 1),
        "simplest": Guidance(kappa, 1, 1, 1),
        "lsg": Guidance(kappa, kappa, kappa, kappa),
        "zero-cfg": Guidance(0, 0, 0, 1),
        "anti-cfg": Guidance(-abs(kappa), -abs(kappa), -abs(kappa), 1),
    }[name]


STRATEGIES = ("none", "long", "short", "simplest", "lsg", "zero-cfg", "anti-cfg")
