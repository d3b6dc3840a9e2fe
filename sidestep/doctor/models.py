"""Whether the models that are found here are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from serve.settings import Settings
from sidestep import __version__
from sidestep.doctor.findings import Finding, note, ok, problem
from sidestep.doctor.found_models import check_model, find_models, shown
from sidestep.errors import EngineMismatch, InvalidModel, InvalidRequest
from sidestep.model_folder import ModelFolder, find_model, named_folder

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "models"  # of a checkout
REINSTALL = f"pip install --force-reinstall --no-deps sidestep=={__version__}"


def check() -> Iterator[Finding]:
    """Check what `sidestep serve` would open, and the other models of this folder."""
    try:
        served = _served()
    except InvalidModel as error:
        yield problem("model", str(error), _mend(EMBEDDED / "emoji") or REINSTALL)
        served = []
    others: list[Path] = []
    if served:
        others = [path for path in find_models() if path not in served]
    yield from (_check(path, served=True) for path in served)
    yield from (_check(path, served=False) for path in others)


def _check(path: Path, *, served: bool) -> Finding:
    """Check one; only those that the service opens are problems."""
    tell = problem if served else note
    try:
        folder = ModelFolder.open(path)
        whole = list(check_model(folder))
    except EngineMismatch as error:  # another engine draws
        return note("model", f"{path}: {error}")
    except InvalidModel as error:
        told = "; run: " in str(error)
        mend = "" if told else _mend(path) or ("unset SIDESTEP_MODEL" if served else "")
        return tell("model", str(error), mend)
    height, width = folder.card.image_size
    steps = folder.card.steps
    size = f"{width}x{height}, {steps} step{'s' if steps > 1 else ''}"
    default = ", served by default" if served else ""
    return ok("model", f"{path}: {folder.card.name}, {size}, {whole[0]}{default}")


def _served() -> list[Path]:
    try:
        settings = Settings.from_environment()
    except InvalidRequest:  # a finding of its own
        settings = Settings()
    return [shown(named_folder(text)[1]) for text in settings.model] or [shown(find_model())]


def _mend(path: Path) -> str:
    """Return the command that brings a model back that came with the code; else none is known."""
    path = path.absolute()
    if path.parent == EMBEDDED and (ROOT / ".git").exists():
        return f"git -C {quote(str(ROOT))} checkout -- models"
    return REINSTALL if path.is_relative_to(ROOT / "sidestep") else ""
