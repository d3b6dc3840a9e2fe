"""Train the embedded model from nothing: data, autoencoder, teacher, students, engines, card.

OUT/                   what `distill.emoji_teacher` writes, OUT/model being the teacher
OUT/student-1.5/       one distillation for each guidance scale, its model folder inside
OUT/models/emoji/      the default student, whole, and beside it the others, see export.companion
OUT/progress.json      the parts that are finished, the seconds that each took, and on what

Running it again goes on where it stopped, in the middle of a part too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from distill.budgets import Budget
from distill.emoji_teacher import QUALITY, train_emoji_teacher
from distill.guidance import strategy
from distill.processes import current, training_device
from distill.student import distil_folder
from sidestep.errors import needing
from sidestep.files import atomic_folder, write_json
from sidestep.model_folder import ONNX, PROMPTS, ModelFolder, write_card

PROGRESS = "progress.json"


def train_embedded(data: Path, out: Path, budget: Budget, *, device: str) -> list[ModelFolder]:
    """Do every part that `out` does not hold yet; return the students' folders, default first.

    data: the file of `sidestep data bundle`
    Raises Stopped after a checkpoint where SIGINT or SIGTERM asked for it; InvalidTraining, before
    any work, where the processes cannot share a batch.
    """
    current().rows(budget.teacher.teacher.batch)
    current().passes(budget.student.batch, budget.student.per_device_batch)
    torch.backends.cuda.matmul.allow_tf32 = False  # Muon's products grow from such errors
    torch.backends.cudnn.benchmark = True  # each part of the teacher has pictures of one size
    teach = partial(train_emoji_teacher, data, out, budget.teacher, device=device)
    _timed(out, "teacher", teach, device=device)
    prompts = (out / PROMPTS).read_text(encoding="utf-8").splitlines()
    kappas = (budget.default, *(kappa for kappa in budget.kappas if kappa != budget.default))
    torch.backends.cudnn.benchmark = False  # a student's minute has too many sizes to try all ways
    for kappa in kappas:
        work = partial(_distil, out, prompts, budget, (kappa, kappas), device)
        _timed(out, f"student {kappa:g}", work, device=device)
    for kappa in kappas:
        _timed(out, f"export {kappa:g}", partial(_export, out, kappa), alone=True)
    shipped = f"models, {kappas[0]:g} first"
    _forget_others(out, shipped)
    _timed(out, shipped, partial(_ship, out, kappas), alone=True)
    return [ModelFolder.open(out / "models" / _name(kappa, kappas)) for kappa in kappas]


@contextmanager
def stop_after(minutes: float | None) -> Iterator[None]:
    """Stop in good order, as SIGTERM does, when `minutes` are over; None: never.

    A training saves its state first; what is not a training is begun anew the next time.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        print("stopped; the same command begins this part again", file=sys.stderr)
        sys.exit(128 + number)

    def stop(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave), signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, (minutes or 0) * 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])


def _folder(out: Path, kappa: float) -> Path:
    return out / f"student-{kappa:g}"


def _distil(
    out: Path,
    prompts: list[str],
    budget: Budget,
    scales: tuple[float, Sequence[float]],
    device: str,
) -> None:
    kappa, kappas = scales
    options = replace(budget.student, guidance=strategy("lsg", kappa))
    name, folder = _name(kappa, kappas), _folder(out, kappa)
    distil_folder(out / "model", prompts, folder, options, name=name, device=device)


def _export(out: Path, kappa: float) -> None:
    """Compile a student for ONNX Runtime, and put beside it what `sidestep evaluate` asks for."""
    folder = ModelFolder.open(_folder(out, kappa) / "model")
    quality = {**folder.card.quality, **_trained(out, kappa)}
    for part in ("autoencoder", "lighter"):
        if (told := out / part / QUALITY).is_file():
            measured = json.loads(told.read_text(encoding="utf-8"))
            quality |= {f"{part}_{key}": value for key, value in measured.items()}
    folder = write_card(folder.path, replace(folder.card, quality=quality))
    if not (folder.has(ONNX) and folder.card.onnx_shares):  # which an export lists at its end
        with needing("export"):  # a machine to train on may lack what an export needs
            from export.options import ExportOptions
            from export.run import export_model
        export_model(folder, ExportOptions(share=True))


def _trained(out: Path, kappa: float) -> dict[str, Any]:
    """Tell how long a student and its teacher learned, and on what."""
    told = _told(out)
    parts = [told["teacher"], told[f"student {kappa:g}"]]
    seconds = sum(part["seconds"] for part in parts)
    on = " and ".join({part["on"]: None for part in parts if "on" in part})  # older runs: unknown
    return {"trained_s": round(seconds), **({"trained_on": on} if on else {})}


def _ship(out: Path, kappas: Sequence[float]) -> None:
    """Put the first student's whole folder beside the others, which share its weights.

    What was shipped before, with another one first, is replaced when all are written.
    """
    from export.companion import write_companion

    models = [ModelFolder.open(_folder(out, kappa) / "model") for kappa in kappas]
    names = [_name(kappa, kappas) for kappa in kappas]
    with atomic_folder(out / "models") as new:
        # Without what a killed export left.
        shutil.copytree(models[0].path, new / names[0], ignore=shutil.ignore_patterns(".*"))
        shutil.copy(out / PROMPTS, new / names[0] / PROMPTS)  # for other students of its teacher
        whole = write_card(new / names[0], replace(models[0].card, name=names[0]))
        for name, model in zip(names[1:], models[1:], strict=True):
            named = replace(model, card=replace(model.card, name=name))
            write_companion(named, whole, new / name)


def _name(kappa: float, kappas: Sequence[float]) -> str:
    """Name a student; the first is the model, the others tell their scale."""
    return "emoji" if kappa == kappas[0] else f"emoji-kappa-{kappa:g}"


def _forget_others(out: Path, shipped: str) -> None:
    """Forget that models were shipped with another student first: they will be replaced."""
    told = _told(out)
    left = {key: it for key, it in told.items() if key == shipped or not key.startswith("models, ")}
    if left != told and current().writes:
        write_json(out / PROGRESS, left)
    current().wait()


def _told(out: Path) -> dict[str, Any]:
    path = out / PROGRESS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _timed(
    out: Path,
    part: str,
    work: Callable[[], object],
    *,
    device: str | None = None,
    alone: bool = False,
) -> None:
    """Do one part unless it is finished, and keep how long it took in all its runs.

    device: what it trains on, which is kept too
    alone: it is the first process's work, for which the others wait
    """
    processes = current()
    path, told = out / PROGRESS, _told(out)
    mine = told.setdefault(part, {"finished": False, "seconds": 0.0})
    if processes.any(mine["finished"]):  # all have read it before one of them writes it
        return
    if processes.writes:
        print(f"{part}: begins after {mine['seconds']:.0f} s", file=sys.stderr, flush=True)
    if device:
        where = training_device(device)
        mine["on"] = torch.cuda.get_device_name(where) if where.type == "cuda" else "a CPU"
    began, before = time.monotonic(), mine["seconds"]
    try:
        if processes.writes or not alone:
            work()
        processes.wait()
        mine["finished"] = True
    finally:
        mine["seconds"] = round(before + time.monotonic() - began, 1)
        if processes.writes:
            write_json(path, told)
