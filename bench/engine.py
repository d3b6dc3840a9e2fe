"""`sidestep bench engine`: engines, and what others make of the same weights, side by side.

Fair to the others: the same weights, prompts and noise, the pictures compared; a process for each;
blocks of calls alternate, so that a busy machine slows all; calls that only warm up come before
each block; each peer at the best of several thread counts, torch.compile with all cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.certificates import faults_of, gate_faults
from bench.contender import Contender, Entry, Task
from bench.costs import costs, device_of
from bench.engine_rows import Timed, row_of
from bench.gpu_watch import add_loads, watching_gpus
from bench.machine import gpu_memory_mib, machine
from bench.reports import Report, told_model
from sidestep.errors import BenchmarkFailed
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise

PROMPTS = ("red apple", "octopus", "fire engine", "sunflower")
ROUNDS = 10  # blocks of each contender; the ratio's interval comes from them
WARMUP = 2
OVERTIME = 1.5  # times the seconds of a plan that blocks may take where the machine turns slow
ALIKE = 2  # levels of 255 that another's pictures may be off by rounding and order of sums
ALIKE_COARSE = 32  # where one computes in fp16 or bf16


@dataclass(frozen=True)
class Plan:
    """What to measure.

    calls: timed calls of each contender and batch size; seconds: the time for them, which wins
    peak_s: seconds for each of the products that the machine's peak is the best of; 0 for none
    """

    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    calls: int = 400
    seconds: float = 20.0
    stage_calls: int = 10
    peak_s: float = 1.0
    gates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)


def measure(folder: ModelFolder, entries: Sequence[Entry], plan: Plan) -> Report:
    """Measure our engines, the first of which the others are compared with, and peers.

    Raises what our own engine raises where it cannot be opened; a peer that cannot is told.
    """
    begun = machine()  # its load before ours
    gates = gate_faults(folder, plan.gates)
    most = max(plan.batches)
    prompts = list(islice(cycle(folder.card.examples or PROMPTS), most))
    seeds = list(range(most))
    task = Task(folder, prompts, latent_noise(seeds, folder.card.noise_shape))
    with ExitStack() as running:
        contenders, absent, differences = _start(entries, task, running, plan)
        counted = _costs(folder, contenders[0], plan)
        with watching_gpus() as noted:
            timed = [one for batch in plan.batches for one in _time(contenders, batch, plan)]
        dead = {one.name for one in timed if one.failed}
        stages = {(o.name, o.batch): _stages(o, plan) for o in timed if o.name not in dead}
        failed = "; ".join(one.failed for one in timed if one.failed)
        described = [_describe(c, folder) for c in contenders]
        for contender, told, difference in zip(contenders, described, differences, strict=True):
            told["largest_difference"] = difference
            told["faults"] += _other_pictures(contender, contenders[0], difference)
    rows = [row_of(one, timed, counted, stages.get((one.name, one.batch), {})) for one in timed]
    return Report(
        kind="engine",
        rows=rows,
        model=told_model(folder),
        prompts=prompts,
        seeds=seeds,
        settings={"batches": plan.batches, "calls": plan.calls, "seconds": plan.seconds},
        figures={"contenders": described, "absent": absent, **counted},
        invalid_because=[
            *gates,
            *(f"{d['name']}: {fault}" for d in described if d["ours"] for fault in d["faults"]),
        ],
        failed=failed or None,
        notes=plan.notes,
        machine={**begun, "gpus": add_loads(begun["gpus"], noted)},
    )


def _costs(folder: ModelFolder, first: Contender, plan: Plan) -> dict[str, Any]:
    if not plan.peak_s:
        return {}
    plan.tell("measure the peak")
    return costs(folder, first.precision, device_of(first.name), seconds=plan.peak_s)


def _start(
    entries: Sequence[Entry], task: Task, running: ExitStack, plan: Plan
) -> tuple[list[Contender], list[dict[str, str]], list[int]]:
    """Open everybody; beside who draws, who is absent and why, and each one's difference."""
    contenders, absent, drawn = [], [], []
    for entry in entries:
        if not entry.is_ours and (why := _unable(task)):
            absent.append({"name": entry.kind, "why": why})
            continue
        plan.tell(f"open {entry.kind}")
        contender = running.enter_context(Contender(entry))
        try:
            drawn.append(contender.start(task).pictures(min(2, len(task.prompts))))
        except BenchmarkFailed as error:
            if entry.is_ours:
                raise
            contender.close()
            absent.append({"name": entry.kind, "why": str(error)})
            plan.tell(f"left out: {error}")
        else:
            contenders.append(contender)
    return contenders, absent, _differences(drawn)


def _unable(task: Task) -> str:
    """Tell why no peer can draw the task, if that is so."""
    if task.noise.ndim > 4:
        return "it draws in one step, the model in several"
    return "" if task.folder.decoder == "full" else "it draws with the whole decoder"


def _differences(drawn: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Compare everybody's first pictures with the first contender's; levels of 255."""
    reference = drawn[0].astype(np.int16)
    return [int(np.abs(pixels - reference).max()) for pixels in drawn]


def _time(contenders: Sequence[Contender], batch: int, plan: Plan) -> list[Timed]:
    """Time one batch size of all contenders in alternating blocks."""
    plan.tell(f"time batches of {batch}")
    timed = [Timed(contender, batch) for contender in contenders]
    blocks = {}
    for one in timed:
        pilot = one.pilot()
        each_ms = 1e3 * plan.seconds
        rounds = max(1, min(ROUNDS, int(each_ms / (pilot * (1 + WARMUP)))))
        affordable = int(each_ms / (rounds * pilot)) - WARMUP
        blocks[id(one)] = (rounds, max(1, min(math.ceil(plan.calls / rounds), affordable)))
    for number in range(ROUNDS):
        for one in timed:
            rounds, calls = blocks[id(one)]
            if number < rounds and one.seconds < OVERTIME * plan.seconds:
                one.block(calls, WARMUP)
    return timed


def _stages(one: Timed, plan: Plan) -> dict[str, list[float]]:
    """Time the stages; who dies over them keeps the row without."""
    order = {"batch": one.batch, "calls": plan.stage_calls, "threads": one.threads}
    try:
        told: dict[str, list[float]] = one.contender.order("stages", **order)["ms"]
    except BenchmarkFailed as error:
        one.failed = f"in the stages of batch {one.batch} {error}"
        return {}
    return told


def _describe(contender: Contender, folder: ModelFolder) -> dict[str, Any]:
    try:
        memory = contender.order("memory")
    except BenchmarkFailed:  # it died before, which its rows tell
        memory = {"rss_peak_mib": None, "device_peak_mib": None}
    held = gpu_memory_mib(contender.pid)
    if held is not None:
        memory["device_peak_mib"] = max(held, memory["device_peak_mib"] or 0.0)
    return {
        "name": contender.name,
        "ours": contender.entry.is_ours,
        "precision": contender.precision,
        "versions": contender.versions,
        **contender.cold,
        **memory,
        "faults": faults_of(folder, contender.name) if contender.entry.is_ours else [],
    }


def _other_pictures(contender: Contender, first: Contender, difference: int) -> list[str]:
    """Tell of pictures that are not the first contender's, so that speeds do not compare."""
    coarse = {contender.precision, first.precision} != {"fp32"}
    allowed = ALIKE_COARSE if coarse else ALIKE
    if difference <= allowed:
        return []
    return [
        f"draws other pictures than {first.name}: up to {difference} levels of 255, above {allowed}"
    ]
