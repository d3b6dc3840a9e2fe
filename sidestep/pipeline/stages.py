"""Do stages one after another, each unless what it was made from is unchanged."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidestep.errors import StageFailed, Stopped
from sidestep.pipeline.ledger import LOG, Finished, Ledger, fingerprint


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    about: a line for people, known before it starts
    inputs: what it is made from, as anything that JSON writes; asked when those before it are done
    outputs: a hash of what it made, None where that is not there (any more)
    work: does it, and returns a line that tells what came of it
    """

    name: str
    about: str
    inputs: Callable[[], Any]
    outputs: Callable[[], str | None]
    work: Callable[[], str]


def run_stages(
    stages: Sequence[Stage],
    ledger: Ledger,
    out: Path,
    *,
    tell: Callable[[str], None],
    command: str,
) -> None:
    """Do what is not done yet; every stage's end is written down at once.

    tell: shows a line; command: what goes on with the run, for those whom it fails
    Raises StageFailed with the name of the stage, its log and that command; Stopped and
    KeyboardInterrupt as they come.
    """
    for number, stage in enumerate(stages, 1):
        head = f"[{number}/{len(stages)}] {stage.name}"
        inputs = fingerprint(stage.inputs())
        if before := _unchanged(stage, ledger, inputs):
            tell(f"{head}: unchanged since {before.date} ({before.told})")
            continue
        ledger.begin()
        tell(f"{head}: {stage.about}")
        began = time.monotonic()
        try:
            told = stage.work()
        except (Stopped, KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            log = out / LOG
            _log(log, f"{stage.name} failed\n{traceback.format_exc()}")
            raise StageFailed(stage.name, error, log=log, command=command) from error
        seconds = round(time.monotonic() - began, 1)
        outputs = stage.outputs()
        assert outputs is not None, f"{stage.name} left nothing behind"
        ledger.keep(stage.name, Finished(inputs, outputs, told, seconds, _now()))
        _log(out / LOG, f"{stage.name}: {told} ({seconds} s)")
        tell(f"{head}: done in {_duration(seconds)}: {told}")


def plan(stages: Sequence[Stage], ledger: Ledger) -> list[tuple[Stage, str]]:
    """Tell of every stage whether it would be done, without doing anything."""
    told: list[tuple[Stage, str]] = []
    for stage in stages:
        if any(state != "unchanged" for _, state in told):
            told.append((stage, "after that"))
            continue
        unchanged = _unchanged(stage, ledger, fingerprint(stage.inputs()))
        told.append((stage, "unchanged" if unchanged else "to do"))
    return told


def _unchanged(stage: Stage, ledger: Ledger, inputs: str) -> Finished | None:
    before = ledger.finished(stage.name)
    if before is None or before.inputs != inputs or before.outputs != stage.outputs():
        return None
    return before


def _log(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{_now()} {text}\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes or hours)
    return " ".join([*parts, f"{rest} s"] if not hours else parts)
