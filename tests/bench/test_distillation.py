"""The benchmark measures the same training in the authors' way and in ours."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import median

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import distillation
from bench.authors_way import WAYS, Indices, in_the_authors_way
from bench.distillation import HERE, THEIRS, Measured, Result, Task, cases, measure, measure_case
from bench.markdown import report_text
from distill import losses
from distill.folders import Teacher, write_teacher
from distill.guidance import strategy
from distill.options import DistillOptions
from distill.sid_lsg import Distillation
from distill.texts import EncodedTexts
from sidestep.schedule import NoiseSchedule

OPTIONS = DistillOptions(
    guidance=strategy("lsg", 1.5), batch=4, per_device_batch=2, precision="fp32", learning_rate=1e-3
)
SCHEDULE = NoiseSchedule.from_config({})


def encode(rows: torch.Tensor) -> torch.Tensor:
    """Stand in for a text encoder: one embedding [12, 16] for each row."""
    source = torch.Generator().manual_seed(0)
    return torch.randn(9, 12, 16, generator=source)[rows]


@pytest.mark.parametrize("ways", [(way,) for way in WAYS] + [tuple(WAYS)], ids="+".join)
def test_the_authors_way_arrives_at_the_same_weights(
    tiny_teacher: Teacher, ways: tuple[str, ...]
) -> None:
    every = encode(torch.arange(9))
    ours = Distillation(tiny_teacher.unet, EncodedTexts([every[1:]], every[:1]), SCHEDULE, OPTIONS)
    texts = Indices(8, torch.device("cpu")) if "text" in ways else ours.samples.texts
    theirs = Distillation(tiny_teacher.unet, texts, SCHEDULE, OPTIONS)
    to_x0 = losses.to_x0
    with in_the_authors_way(theirs, ways, encode) as update:
        for step in (1, 2):
            ours.update(step)
            update(step)
        kept = [p.grad is not None for p in theirs.psi.unet.parameters()]
    assert losses.to_x0 is to_x0
    assert all(kept) == ("gradients" in ways)
    assert any(kept) == ("gradients" in ways)
    for a, b in zip(ours.theta.unet.parameters(), theirs.theta.unet.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_every_mend_leaves_one_way_out() -> None:
    named = cases(compare=True)
    assert named.pop(HERE) == ()
    assert set(named.pop(THEIRS)) == set(WAYS)
    assert sorted(set(WAYS) - set(ways) for ways in named.values()) == sorted({way} for way in WAYS)


def test_a_case_takes_the_operations_that_the_method_says(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    """18 UNet passes of a picture with guidance: 7 for the fake score, 11 for the generator."""
    write_teacher(tmp_path / "teacher", tiny_teacher)
    task = Task(tmp_path / "teacher", OPTIONS, "cpu", steps=2, warm_up=0, threads=1)
    measured = measure_case(task)
    (seconds,) = measured.rounds_s
    assert len(seconds) == 2
    assert min(seconds) > 0
    texts = EncodedTexts([torch.zeros(1, 12, 16)], torch.zeros(1, 12, 16))
    scored = Distillation(tiny_teacher.unet, texts, SCHEDULE, OPTIONS).phi
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        scored(torch.zeros(1, 4, 8, 8), torch.ones(1), torch.zeros(1, 12, 16))
    assert measured.flops / OPTIONS.batch / counter.get_total_flops() == pytest.approx(18, rel=0.03)


def result_of(rounds: int) -> Result:
    """Ours is twice as fast, on a machine that is slower in each round."""
    cases = {
        name: Measured(
            [[times * slow, times * slow * 1.02] for slow in range(1, 1 + rounds)], 9.0, 8
        )
        for name, times in ((HERE, 1.0), (THEIRS, 2.0))
    }
    return Result(Task(Path("teacher"), OPTIONS, "cpu"), cases, {"matmul_tflops": 1.0})


def test_a_ratio_stands_with_its_interval_or_not_at_all() -> None:
    report = result_of(6).report()
    ours, theirs = report.rows
    assert ours["times_the_authors"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert theirs["times_the_authors"] is None
    assert "2 (2 to 2)" in report_text(report)
    assert [row["times_the_authors"] for row in result_of(5).report().rows] == [None, None]


def test_a_case_without_memory_leaves_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads take the processes' place: what is looked at is what becomes of an error."""
    asked: list[tuple[str, ...]] = []

    def measured(task: Task) -> Measured:
        asked.append(task.ways)
        if len(task.ways) == len(WAYS) - 1 and "text" in task.ways:
            raise BrokenProcessPool("A process in the process pool was terminated abruptly")
        if task.ways == tuple(WAYS) and asked.count(task.ways) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Measured([[1.0]], 5.0, 8)

    monkeypatch.setattr(distillation, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))
    monkeypatch.setattr(distillation, "measure_case", measured)
    monkeypatch.setattr(distillation, "PEAK_SECONDS", 0.01)
    result = measure(Task(Path("teacher"), OPTIONS, "cpu", threads=1), compare=True, rounds=3)
    assert {name: len(case.rounds_s) for name, case in result.cases.items()} == {
        HERE: 3, THEIRS: 1, f"{THEIRS}, mended: text": 3,
        **{f"{THEIRS}, mended: {way}": 0 for way in WAYS if way != "text"},
    }  # fmt: skip
    report = result.report()
    assert report.failed is not None
    assert f"{THEIRS}: CUDA out of memory; lower --per-device-batch" in report.failed
    assert "mended: cache: its process died" in report.failed
    assert [row["images_per_s"] is None for row in report.rows] == [False] * 3 + [True] * 4
    assert report.failed in report_text(report)


class Dies:
    """Ends the process that it is sent to, as the system does where memory runs out."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def test_a_process_that_is_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "measure_case", Dies())
    monkeypatch.setattr(distillation, "PEAK_SECONDS", 0.01)
    report = measure(Task(Path("teacher"), OPTIONS, "cpu", threads=1)).report()
    assert report.failed is not None
    assert report.failed.startswith("as here: its process died")
    (row,) = report.rows
    assert [row["images_per_s"], row["peak_mib"], row["rounds_s"]] == [None, None, []]


@pytest.mark.slow
def test_cases_are_measured_in_processes_of_their_own(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    task = Task(tmp_path / "teacher", OPTIONS, "cpu", steps=2, threads=1)
    result = measure(task)
    report = result.report()
    (row,) = report.rows
    (seconds,) = row["rounds_s"]
    assert len(seconds) == 2
    assert row["images_per_s"] == pytest.approx(4 / median(seconds), rel=1e-2)
    assert row["times_the_authors"] is None  # they were not asked
    assert 0 < report.figures["percent_of_peak"] < 100
    assert "as here" in report_text(report)
