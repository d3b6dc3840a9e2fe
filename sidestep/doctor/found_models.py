"""Model folders: where they lie, what is compiled in them, and whether they are whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bench.certificates import faults_in
from sidestep.engines.plans import COMPILERS, plans, verify
from sidestep.errors import InvalidModel
from sidestep.model_folder import CARD, CERTIFICATE, COMPILED, ModelFolder, find_model
from sidestep.tokenizer import PromptTokenizer

PLACES = (Path("models"), Path("runs"))
TEACHER = "teacher"


def find_models(places: Sequence[Path] = ()) -> list[Path]:
    """List the model folders in `places`, or the default one and those of `models/` and `runs/`.

    A place is a model folder, or holds some, as `models/` does, or runs that hold one each. Raises
    InvalidModel for a place that was named and has none, and where there is none at all.
    """
    found = [path for place in places or PLACES for path in _within(place)]
    for place in places:
        if not _within(place):
            raise InvalidModel(f"{place} is no model folder and holds none")
    if not places:
        with suppress(InvalidModel):  # none by default, but one here
            found.insert(0, find_model())
    if not found:
        raise InvalidModel("no model found; name the folder that holds some")
    return [shown(path) for path in {path.resolve(): None for path in found}]


def shown(path: Path) -> Path:
    """Write a path as it is called from here, where it lies below."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def decoders_of(folder: ModelFolder) -> list[ModelFolder]:
    """See a folder with each of its decoders."""
    small = [folder.with_decoder("small")] if folder.card.small_decoder else []
    return [folder.with_decoder("full"), *small]


def certificates(folder: ModelFolder) -> dict[str, Path]:
    """Return the certificate of everything that is compiled for the folder's decoder, by name."""
    base = folder.path / folder.place(".")
    found = [*base.glob(f"[!.]*/{CERTIFICATE}"), *base.glob(f"{COMPILED}/*/{CERTIFICATE}")]
    return {_name(path.parent, folder): path for path in sorted(found)}


def check_model(folder: ModelFolder) -> Iterator[str]:
    """Check every hash of the card, certificate and plan; yields a line for what was found whole.

    Raises InvalidModel naming the first that is not, and EngineMismatch for a plan that was made
    for another machine or model.
    """
    # Only training reads the teacher, so packages and images leave it out as a whole.
    left_out = () if (folder.path / TEACHER).exists() else folder.files_under(TEACHER)
    files = [file for file in folder.card.files if file not in left_out]
    folder.check(files)
    yield f"{len(files)} files are those of {CARD}"
    PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
    steps = folder.schedule.timesteps
    yield f"tokenizer and schedule open, at timestep {', '.join(map(str, steps))}"
    for seen in decoders_of(folder):
        for name, path in certificates(seen).items():
            if faults := faults_in(path, seen.card.weights):
                raise InvalidModel(f"{path}: {faults[0]}")
            yield f"{name}: the certificate is of these weights and holds"
        for place in plans(seen, *COMPILERS):
            manifest = verify(seen, place)
            yield f"{_name(place, seen)}: the plan is of these weights, for {manifest.target}"


def _within(place: Path) -> list[Path]:
    if (place / CARD).is_file():
        return [place]
    cards = [*place.glob(f"*/{CARD}"), *place.glob(f"*/model/{CARD}")]
    return sorted(card.parent for card in cards)


def _name(place: Path, folder: ModelFolder) -> str:
    name = place.name
    return name if folder.decoder == "full" else f"{name} ({folder.decoder} decoder)"
