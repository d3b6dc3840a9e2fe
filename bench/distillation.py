"""How fast a distillation trains here, and what each departure from the authors' way brings.

Every case is measured in a process of its own, so that its memory is its alone, and all of them
in turn, round after round, so that a slow minute of the machine is shared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from bench.authors_way import WAYS, Indices, in_the_authors_way
from bench.peak import measure_peak
from bench.reports import Report
from bench.stats import paired_ratio_estimate, told_estimate
from bench.worker import rss_peak_mib
from distill.folders import Teacher, load_teacher
from distill.options import DistillOptions
from distill.precision import PRECISIONS
from distill.processes import training_device
from distill.sid_lsg import Distillation
from distill.texts import EncodedTexts, Texts
from sidestep.errors import one_line
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

HERE, THEIRS = "as here", "the authors' way"
PROMPTS = tuple(f"a picture of {number} apples" for number in range(256))
PEAK_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """What a process measures: `steps` updates after `warm_up` of them, in some of WAYS."""

    teacher: Path
    options: DistillOptions
    device: str
    ways: tuple[str, ...] = ()
    steps: int = 3
    warm_up: int = 1
    threads: int = 0


@dataclass
class Measured:
    """What a case took.

    rounds_s: seconds of each update, by round; peak_mib: the most device memory, or the process's
    on a CPU; flops: operations of one update; failed: why it was measured no more, if so
    """

    rounds_s: list[list[float]] = field(default_factory=list)
    peak_mib: float = 0.0
    flops: int = 0
    failed: str = ""

    @property
    def median_s(self) -> float:
        """Seconds of the median update; nan where there was none."""
        return median(chain(*self.rounds_s)) if self.rounds_s else math.nan


@dataclass(frozen=True)
class Result:
    """Every case by its name, and the machine's own rate in TFLOP/s (products, convolutions)."""

    task: Task
    cases: dict[str, Measured]
    peak: dict[str, float]

    @property
    def share_of_peak(self) -> float:
        """The part of the machine's measured rate that the distillation reaches."""
        case = self.cases[HERE]
        return case.flops / case.median_s / 1e12 / max(self.peak.values())

    @property
    def failed(self) -> str | None:
        """Which cases were measured no more, and why."""
        told = [f"{name}: {case.failed}" for name, case in self.cases.items() if case.failed]
        return "; ".join(told) or None

    def times_the_authors(self, name: str) -> dict[str, float] | None:
        """Estimate how many times as fast a case is as the authors' way; None below six rounds."""
        if name == THEIRS or THEIRS not in self.cases:
            return None
        ratio = paired_ratio_estimate(self.cases[THEIRS].rounds_s, self.cases[name].rounds_s)
        return told_estimate(ratio)

    def report(self) -> Report:
        """Write it as a report: a row for each case, its speed beside the authors' way."""
        batch = self.task.options.batch
        rows = [
            {
                "case": name,
                "images_per_s": _figure(batch / case.median_s, 4),
                "times_the_authors": self.times_the_authors(name),
                "peak_mib": round(case.peak_mib, 1) if case.rounds_s else None,
                "rounds_s": [[round(second, 4) for second in one] for one in case.rounds_s],
            }
            for name, case in self.cases.items()
        ]
        figures = {
            "peak": self.peak,
            "percent_of_peak": _figure(100 * self.share_of_peak, 3),
            "gflop_per_image": _figure(self.cases[HERE].flops / batch / 1e9 or math.nan, 4),
        }
        settings = {"device": self.task.device, "threads": self.task.threads}
        settings |= asdict(self.task.options)
        return Report("distill", rows, settings=settings, figures=figures, failed=self.failed)


def cases(*, compare: bool) -> dict[str, tuple[str, ...]]:
    """Name what is measured: as here, and the authors' way whole and with one mend each."""
    if not compare:
        return {HERE: ()}
    mended = {
        f"{THEIRS}, mended: {way}": tuple(other for other in WAYS if other != way) for way in WAYS
    }
    return {HERE: (), THEIRS: tuple(WAYS), **mended}


def measure(task: Task, *, compare: bool = False, rounds: int = 1) -> Result:
    """Measure a distillation of a teacher; with `compare` also in the authors' way.

    Raises what loading the teacher and choosing the device raise. A case that runs out of memory is
    told, and measured no more; the others are.
    """
    training_device(task.device)  # before any process starts
    task = replace(task, threads=task.threads or torch.get_num_threads())
    measured = {name: Measured() for name in cases(compare=compare)}
    plan = [(name, ways) for _ in range(rounds) for name, ways in cases(compare=compare).items()]
    context = get_context("spawn")
    with tqdm(plan, unit="case") as progress:
        for name, ways in progress:
            progress.set_description(name)
            total = measured[name]
            if total.failed:
                continue
            try:
                with ProcessPoolExecutor(1, mp_context=context) as alone:
                    one = alone.submit(measure_case, replace(task, ways=ways)).result()
            except RuntimeError as error:  # of PyTorch, or a process that the system ended
                total.failed = _why(error)
                continue
            total.rounds_s += one.rounds_s
            total.peak_mib = max(total.peak_mib, one.peak_mib)
            total.flops = one.flops
    formats = PRECISIONS[task.options.precision]
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[
        formats.autocast or formats.weights
    ]
    kind = training_device(task.device).type
    peak = measure_peak(precision, device=kind, threads=task.threads, seconds=PEAK_SECONDS)
    return Result(task, measured, peak)


def measure_case(task: Task) -> Measured:
    """Measure one case, in this process."""
    torch.set_num_threads(task.threads)
    device = training_device(task.device)
    teacher = load_teacher(task.teacher)
    encode = _encoder(teacher, device)
    work = Distillation(
        teacher.unet,
        _texts(task, encode, device),
        NoiseSchedule.from_config(
            teacher.schedule, init_timestep=task.options.init_timestep, steps=task.options.steps
        ),
        task.options,
    )
    if "text" not in task.ways:
        teacher.text_encoder.cpu()
    with in_the_authors_way(work, task.ways, encode) as update:
        with FlopCounterMode(display=False) as counter:
            update(1)
        seconds = [_seconds(update, 2 + step, device) for step in range(task.warm_up + task.steps)]
    return Measured([seconds[task.warm_up :]], _peak_mib(device), counter.get_total_flops())


def _why(error: RuntimeError) -> str:
    """Tell what a case died of, and the mend where that is missing memory."""
    told = one_line(error, 200)
    if isinstance(error, BrokenProcessPool):
        told = "its process died, as where memory runs out"
    elif not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in told:
        return told
    return f"{told}; lower --per-device-batch or --batch, or add --recompute"


def _figure(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _encoder(teacher: Teacher, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return rows of ('', *PROMPTS) -> embeddings; the ids are kept, encoding is the cost."""
    tokenizer = PromptTokenizer(teacher.tokenizer, length=teacher.tokens)
    ids = torch.stack([torch.from_numpy(tokenizer.encode(p).ids) for p in ("", *PROMPTS)])
    ids, encoder = ids.to(device), teacher.text_encoder.to(device)

    @torch.no_grad()
    def encode(rows: Tensor) -> Tensor:
        embeddings: Tensor = encoder(ids[rows]).last_hidden_state
        return embeddings

    return encode


def _texts(task: Task, encode: Callable[[Tensor], Tensor], device: torch.device) -> Texts:
    if "text" in task.ways:
        return Indices(len(PROMPTS), device)
    every = encode(torch.arange(1 + len(PROMPTS), device=device))
    every = every.to(PRECISIONS[task.options.precision].text)
    return EncodedTexts([every[1:].cpu()], every[:1])


def _seconds(update: Callable[[int], None], step: int, device: torch.device) -> float:
    began = time.perf_counter()
    update(step)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return rss_peak_mib()
