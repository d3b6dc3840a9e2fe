"""All checks of this machine, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from sidestep.doctor.findings import Finding, problem

CHECKS = ("packages", "known_bad", "gpus", "service", "room", "models")
OURS = ("sidestep", "serve", "export", "bench")  # a Bento has some of them


def diagnose() -> Iterator[Finding]:
    """Check this machine for what serving needs; imports neither torch nor an engine."""
    for name in CHECKS:
        try:
            yield from import_module(f"sidestep.doctor.{name}").check()
        except ImportError as error:
            package = str(error.name).partition(".")[0]
            text = f"not checked, because {package} cannot be imported ({error})"
            mend = "pip install sidestep" if package in OURS else f"pip install {package}"
            yield problem(name, text, mend)
