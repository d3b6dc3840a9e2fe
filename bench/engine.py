"""`sidestep bench engine`: engines, and what others make of the same weights, side by side.

Fair to the others: the same weights, prompts and noise, the pictures compared; a process for each;
blocks of calls alternate, so that a busy machine slows all; calls that only warm up come before
each block; each peer at the best of several thread counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from bench.certificates import faults_of, gate_faults
from bench.contender import Contender, Entry, Task
from bench.costs import costs
from bench.engine_rows import Timed, row_of
from bench.machine import gpu_memory_mib
from bench.reports import Report, told_model
from sidestep.errors import BenchmarkFailed
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise

PROMPTS = ("red apple", "octopus", "fire engine", "sunflower")
ROUNDS = 10  # blocks of each contender; the ratio's interval comes from them
WARMUP = 2
ALIKE = 2  # levels of 255 that another's pictures may be off by rounding and order of sums
ALIKE_COARSE = 24  # where one computes in fp16 or bf16


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
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)


def measure(folder: ModelFolder, entries: Sequence[Entry], plan: Plan) -> Report:
    """Measure our engines, the first of which the others are compared with, and peers.

    Raises what our own engine raises where it cannot be opened; a peer that cannot is told.
    """
    gates = gate_faults(folder, plan.gates)
    most = max(plan.batches)
    prompts = list(islice(cycle(folder.card.examples or PROMPTS), most))
    seeds = list(range(most))
    task = Task(folder.path, prompts, latent_noise(seeds, folder.card.latent_shape))
    with ExitStack() as running:
        contenders, absent = _start(entries, task, running, plan)
        differences = _differences(contenders)
        timed = [one for batch in plan.batches for one in _time(contenders, batch, plan)]
        stages = {(one.name, one.batch): _stages(one, plan) for one in timed if one.rounds}
        described = [_describe(c, folder, differences[c.name]) for c in contenders]
    told = costs(folder.path, contenders[0].precision, seconds=plan.peak_s) if plan.peak_s else {}
    rows = [row_of(one, timed, told, stages.get((one.name, one.batch), {})) for one in timed]
    return Report(
        kind="engine",
        rows=rows,
        model=told_model(folder),
        prompts=prompts,
        seeds=seeds,
        settings={"batches": plan.batches, "calls": plan.calls, "seconds": plan.seconds},
        figures={"contenders": described, "absent": absent, **told},
        invalid_because=[*_faults(described), *gates],
        failed="; ".join(one.failed for one in timed if one.failed) or None,
    )


def _start(
    entries: Sequence[Entry], task: Task, running: ExitStack, plan: Plan
) -> tuple[list[Contender], list[dict[str, str]]]:
    contenders, absent = [], []
    for entry in entries:
        plan.tell(f"open {entry.kind}")
        contender = running.enter_context(Contender(entry))
        try:
            contenders.append(contender.start(task))
        except BenchmarkFailed as error:
            if entry.is_ours:
                raise
            contender.close()
            absent.append({"name": entry.kind, "why": str(error)})
            plan.tell(f"left out: {error}")
    return contenders, absent


def _differences(contenders: Sequence[Contender]) -> dict[str, int]:
    """Compare everybody's first two pictures with the first contender's; levels of 255."""
    batch = min(2, len(contenders[0].pictures(1)) + 1)
    drawn = {c.name: c.pictures(batch).astype(np.int16) for c in contenders}
    reference = drawn[contenders[0].name]
    return {name: int(np.abs(pixels - reference).max()) for name, pixels in drawn.items()}


def _time(contenders: Sequence[Contender], batch: int, plan: Plan) -> list[Timed]:
    """Time one batch size of all contenders in alternating blocks."""
    plan.tell(f"time batches of {batch}")
    timed = [Timed(contender, batch) for contender in contenders]
    blocks = {}
    for one in timed:
        pilot = one.pilot()
        each_ms = 1e3 * plan.seconds / len(one.contender.threads)
        rounds = max(1, min(ROUNDS, int(each_ms / (pilot * (1 + WARMUP)))))
        affordable = int(each_ms / (rounds * pilot)) - WARMUP
        blocks[id(one)] = (rounds, max(1, min(math.ceil(plan.calls / rounds), affordable)))
    for number in range(ROUNDS):
        for one in timed:
            rounds, calls = blocks[id(one)]
            if number < rounds:
                one.block(calls, WARMUP)
    return timed


def _stages(one: Timed, plan: Plan) -> dict[str, list[float]]:
    order = {"batch": one.batch, "calls": plan.stage_calls, "threads": one.best}
    told: dict[str, list[float]] = one.contender.order("stages", **order)["ms"]
    return told


def _describe(contender: Contender, folder: ModelFolder, difference: int) -> dict[str, Any]:
    memory = contender.order("memory")
    held = gpu_memory_mib(contender.pid)
    if held is not None:
        memory["device_peak_mib"] = max(held, memory["device_peak_mib"] or 0.0)
    return {
        "name": contender.name,
        "ours": contender.entry.is_ours,
        "precision": contender.precision,
        **contender.cold,
        **memory,
        "largest_difference": difference,
        "faults": faults_of(folder, contender.name) if contender.entry.is_ours else [],
    }


def _faults(described: Sequence[dict[str, Any]]) -> list[str]:
    """List broken certificates, and who draws other pictures than the first."""
    faults = [f"{one['name']}: {fault}" for one in described for fault in one["faults"]]
    for one in described:
        coarse = {one["precision"], described[0]["precision"]} != {"fp32"}
        allowed = ALIKE_COARSE if coarse else ALIKE
        if one["largest_difference"] > allowed:
            faults.append(
                f"{one['name']} draws other pictures than {described[0]['name']}: up to "
                f"{one['largest_difference']} levels of 255, above {allowed}"
            )
    return faults
