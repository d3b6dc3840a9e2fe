"""Find the compiled plans of a model folder, and refuse those that are not this model's."""

from __future__ import annotations

from pathlib import Path

from sidestep.engines.manifest import MANIFEST, Manifest, check_manifest, read_manifest
from sidestep.errors import EngineMismatch
from sidestep.model_folder import COMPILED, ModelFolder

COMPILERS = ("tensorrt-rtx", "tensorrt", "aoti")  # a name before those that it begins with


def plans(folder: ModelFolder, *compilers: str) -> list[Path]:
    """List the folders of `engines/` that hold the manifest of a plan by one of `compilers`."""
    found = sorted(
        path.parent for path in (folder.path / folder.place(COMPILED)).glob(f"*/{MANIFEST}")
    )
    return [place for place in found if _compiler(place) in compilers]


def verify(folder: ModelFolder, place: Path) -> Manifest:
    """Check a plan's signature and hash and that it was compiled from this model, in its steps."""
    mend = mend_of(folder, place)
    manifest = read_manifest(place, mend)
    check_manifest(manifest, {"weights": folder.card.weights}, mend)
    wanted = [-1, *folder.card.noise_shape]
    if (noise := manifest.tensors.get("noise", ["FLOAT", wanted])[1]) != wanted:
        raise EngineMismatch("the noise's shape", plan=noise, here=wanted, mend=mend)
    return manifest


def mend_of(folder: ModelFolder, place: Path) -> str:
    """Return the command that writes the plan in `place` anew."""
    compiler = _compiler(place)
    if compiler is None:
        return f"sidestep export {folder.arguments} --to tensorrt-rtx"
    target, _, precision = place.name.removeprefix(f"{compiler}-").rpartition("-")
    return (
        f"sidestep export {folder.arguments} --to {compiler} --target {target} "
        f"--precision {precision}"
    )


def _compiler(place: Path) -> str | None:
    return next((name for name in COMPILERS if place.name.startswith(f"{name}-")), None)
