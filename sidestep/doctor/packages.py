"""Python and packages against the requirements of the installed sidestep's own metadata."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from shlex import quote

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sidestep import __version__
from sidestep.doctor.findings import Finding, note, ok, problem

# A package that brings the modules of another one.
STANDS_IN = {"onnxruntime": "onnxruntime-gpu"}


def check() -> Iterator[Finding]:
    """Check Python, what serving needs, and what each extra would bring."""
    try:
        here = metadata.distribution("sidestep")
    except metadata.PackageNotFoundError:
        yield ok("python", platform.python_version())
        text = "sidestep is not installed, so its requirements are not known here"
        yield note("packages", text, install_command())
        return
    yield _python(SpecifierSet(here.metadata["Requires-Python"] or ""))
    if here.version != __version__:
        text = f"the requirements are of sidestep {here.version}, the code is {__version__}"
        yield note("packages", text, install_command())
    yield from check_requirements(here.requires or [])
    for extra in here.metadata.get_all("Provides-Extra") or []:
        yield check_extra(extra, here.requires or [])


def check_requirements(texts: list[str]) -> Iterator[Finding]:
    """Check what serving needs: a problem for each package, or one line for all."""
    needed = [r for r in map(Requirement, texts) if r.marker is None or r.marker.evaluate()]
    faults = [(requirement, fault) for requirement in needed if (fault := fault_of(requirement))]
    for requirement, fault in faults:
        wanted = f"pip install '{requirement.name}{requirement.specifier}'"
        yield problem("packages", f"{requirement.name} {fault}", wanted)
    if not faults:
        yield ok("packages", f"the {len(needed)} that serving needs are here, in their ranges")


def check_extra(extra: str, texts: list[str]) -> Finding:
    """Tell whether an extra is complete, else what it lacks and what brings it."""
    subject = f"[{extra}]"
    named = [r for r in map(Requirement, texts) if r.marker and "extra" in str(r.marker)]
    brought = [r for r in named if r.marker and r.marker.evaluate({"extra": extra})]
    if not brought:
        return note(subject, f"brings nothing on {platform.system()} {platform.machine()}")
    faults = [f"{r.name} {fault}" for r in brought if (fault := fault_of(r))]
    if faults:
        return note(subject, ", ".join(faults), f"pip install 'sidestep[{extra}]'")
    return ok(subject, f"complete, {len(brought)} package{'s' if len(brought) > 1 else ''}")


def fault_of(requirement: Requirement) -> str:
    """Say in a few words what is wrong with a package; nothing where it is as required."""
    version = installed(requirement.name)
    if version is None and requirement.name in STANDS_IN:
        version = installed(STANDS_IN[requirement.name])
    if version is None:
        return "is missing"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"is {version}, outside {requirement.specifier}"
    return ""


def installed(name: str) -> str | None:
    """Return a package's version; None where it is missing or its metadata is damaged."""
    try:
        return metadata.version(name) or None
    except (metadata.PackageNotFoundError, KeyError):
        return None


def _python(wanted: SpecifierSet) -> Finding:
    version = platform.python_version()
    if wanted.contains(version, prereleases=True):
        return ok("python", f"{version} at {sys.executable}")
    text = f"{version}, outside {wanted}"
    return problem("python", text, f"python3.12 -m venv .venv && .venv/bin/{install_command()}")


def install_command() -> str:
    """Return the command that installs this code: the checkout, or the package."""
    root = Path(__file__).parents[2]
    is_checkout = (root / "pyproject.toml").is_file()
    return f"pip install -e {quote(str(root))}" if is_checkout else "pip install sidestep"
