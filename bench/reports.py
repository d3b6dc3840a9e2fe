"""Reports: what was measured, on what, with which command; JSON that others can compare with.

docs/bench-schema.json describes every field. A report is written even if a run fails half-way.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import commit, load_average, machine, versions
from sidestep.errors import InvalidData
from sidestep.files import write_bytes
from sidestep.model_folder import ModelFolder

SCHEMA = "sidestep-bench/1"


def told_command() -> str:
    """Return the command line that is running, as a user would type it, without an API key."""
    words = sys.argv[1:]
    keys = [place + 1 for place, word in enumerate(words) if word == "--key"]
    told = ["KEY" if place in keys else word for place, word in enumerate(words)]
    told = ["--key=KEY" if word.startswith("--key=") else word for word in told]
    return shlex.join(["sidestep", *told])


def told_model(folder: ModelFolder) -> dict[str, Any]:
    """Identify a model by its name and the hash of its weights, never by its path."""
    card = folder.card
    return {
        "name": card.name,
        "weights": card.weights,
        "image_size": list(card.image_size),
        "method": str(card.recipe.get("method", "unknown")),
    }


@dataclass(frozen=True)
class Report:
    """One run of one benchmark.

    kind: "engine", "http" or another benchmark's own name; rows differ by kind
    settings: what the run was asked to do; figures: what describes the run as a whole
    invalid_because: why its speeds must not be quoted; nothing where they may
    failed: why it ended early, if it did
    notes: what a reader should know besides
    """

    kind: str
    rows: Sequence[Mapping[str, Any]]
    model: Mapping[str, Any] | None = None
    prompts: Sequence[str] = ()
    seeds: Sequence[int] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    invalid_because: Sequence[str] = ()
    failed: str | None = None
    notes: Sequence[str] = ()
    command: str = field(default_factory=told_command)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: Mapping[str, Any] = field(default_factory=machine)
    load_average_at_end: float | None = field(default_factory=load_average)
    versions: Mapping[str, str] = field(default_factory=versions)
    commit: str | None = field(default_factory=commit)
    schema: str = SCHEMA

    @property
    def valid(self) -> bool:
        """Whether its speeds may be quoted."""
        return not self.invalid_because

    def write(self, path: Path) -> None:
        """Write the report as JSON, atomically."""
        write_bytes(path, (dump(asdict(self)) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a report; raises InvalidData for a file that is none or of another schema."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidData(f"{path} cannot be read as JSON ({error})") from error
        found = values.get("schema") if isinstance(values, dict) else None
        if found != SCHEMA:
            raise InvalidData(
                f"{path} has schema {found!r}; this version of sidestep reads {SCHEMA}: "
                "measure again"
            )
        names = {f.name for f in fields(cls)}
        if differ := sorted(names ^ set(values)):
            raise InvalidData(f"{path}: these fields are missing or unknown: {', '.join(differ)}")
        return cls(**values)


def dump(value: Any) -> str:
    """Write indented JSON with one line for each list of numbers; what is not finite is null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(
        r"\[\s+((?:-?\d[\d.eE+-]*|null)(?:,\s+(?:-?\d[\d.eE+-]*|null))*)\s+\]",
        lambda found: "[" + " ".join(found[1].split()) + "]",
        text,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
