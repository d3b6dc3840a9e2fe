"""What a run has finished: OUT/run.json, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sidestep.errors import InvalidTraining
from sidestep.files import write_json

FILE, LOG, FORMAT = "run.json", "run.log", 1
TRAINING = "distil-"  # how the folders of a run's trainings begin


@dataclass(frozen=True)
class Finished:
    """A finished stage: hashes of what it was made from and of what it made, and how it went.

    told: a line for people; date: ISO 8601, UTC
    """

    inputs: str
    outputs: str
    told: str
    seconds: float
    date: str


class Ledger:
    """The stages that a run folder has finished.

    identity: what makes it this run; a folder in which another finished a stage is refused
    """

    def __init__(
        self, out: Path, identity: Mapping[str, Any], finished: dict[str, Finished]
    ) -> None:
        self._path, self._identity, self._finished = out / FILE, identity, finished

    @classmethod
    def open(cls, out: Path, identity: Mapping[str, Any]) -> Self:
        """Read what is there; raises InvalidTraining where `out` is not this run's."""
        path = out / FILE
        if not path.is_file():
            if out.exists() and not (out.is_dir() and _is_vacant(out)):
                raise InvalidTraining(
                    f"{out} holds something else than a run; choose another --out, or delete it"
                )
            return cls(out, identity, {})
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            version, theirs = told["format"], told["identity"]
            finished = {name: Finished(**one) for name, one in told["finished"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidTraining(
                f"{path} cannot be read ({error!r}); delete it to do every stage again"
            ) from error
        mine = json.loads(json.dumps(identity))
        # Where nothing is finished, a training's own checkpoints refuse another recipe.
        if version != FORMAT or (finished and theirs != mine):
            raise InvalidTraining(f"{out} belongs to another run: {_changes(theirs, mine)}")
        return cls(out, identity, finished)

    def finished(self, stage: str) -> Finished | None:
        """Return how a stage ended, if it ever did."""
        return self._finished.get(stage)

    def keep(self, stage: str, finished: Finished) -> None:
        """Write down that a stage is finished."""
        self._finished[stage] = finished
        self.begin()

    def begin(self) -> None:
        """Claim the folder, before a stage puts anything there that may have to be gone on with."""
        stages = {name: asdict(one) for name, one in self._finished.items()}
        told = {"format": FORMAT, "identity": self._identity, "finished": stages}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, told)


def _is_vacant(out: Path) -> bool:
    """Tell whether a folder is empty, or a run's that lost its file or never had one."""
    names = [path.name for path in out.iterdir()]
    return not names or any(name == LOG or name.startswith(TRAINING) for name in names)


def fingerprint(value: Any) -> str:
    """Hash anything that JSON can write, paths and dataclasses' values by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _changes(theirs: Any, mine: Mapping[str, Any]) -> str:
    """Name what differs, and the mend."""
    theirs = theirs if isinstance(theirs, dict) else {}
    names = sorted(k for k in {*theirs, *mine} if theirs.get(k) != mine.get(k))
    what = ", ".join(f"{name} ({theirs.get(name)} -> {mine.get(name)})" for name in names)
    return f"{what or 'of another version of sidestep'}; choose another --out"
