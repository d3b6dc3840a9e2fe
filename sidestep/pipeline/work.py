"""What each stage does. Packages are imported where they are needed: not every run needs all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidestep.errors import BenchmarkFailed, CertificateFailed, needing
from sidestep.files import sha256, write_json
from sidestep.model_folder import ModelFolder, write_card
from sidestep.pipeline.options import (
    BENCH_S,
    EMOJI,
    FEW_BENCH_S,
    FEW_PICTURES,
    PICTURES,
    RunOptions,
)

if TYPE_CHECKING:
    from bench.quality.evaluate import EvaluateOptions
    from export.options import ExportOptions

BATCHES, FEW_BATCHES = (1, 2, 4, 8), (1, 4)


def distil(options: RunOptions, training: Path, model: Path) -> str:
    """Train in `training`, and put the model where it is served from.

    Raises Stopped after a Ctrl-C.
    """
    from distill.student import distil_folder
    from sidestep.pipeline.launch import distil_together

    if options.processes > 1:
        made = distil_together(options, training)
    else:
        made = distil_folder(
            options.teacher,
            options.prompts,
            training,
            options.distil,
            name=options.preset,
            device=options.device,
        )
    recipe = {**made.card.recipe, "preset": options.preset}
    write_card(made.path, replace(made.card, recipe=recipe))
    shutil.rmtree(model, ignore_errors=True)
    made.path.replace(model)
    return f"{recipe['images_seen']:,} images seen"


def small_decoder(options: RunOptions, out: Path, model: Path) -> str:
    """Teach a lighter decoder; each student's has a folder of its own."""
    from distill.small_decoder import distil_decoder

    assert options.decoder is not None
    folder = ModelFolder.open(model)
    training = out / f"decoder-{folder.card.weights[:8]}"
    small = distil_decoder(
        folder, options.prompts, training, options.decoder, device=options.device
    )
    return f"PSNR {small.card.small_decoder['psnr_db']} dB against the full decoder"


def export(model: Path, decoder: str, options: ExportOptions) -> str:
    """Compile one engine with its certificate."""
    with needing("export"):
        from export.run import export_model
    certificate = export_model(ModelFolder.open(model).with_decoder(decoder), options)
    return f"at most {certificate.largest_difference}/255 from PyTorch"


def certify(model: Path, out: Path) -> str:
    """Let every engine that is there draw at known seeds, and keep what was found in `out`.

    Raises CertificateFailed for what serving must not draw with.
    """
    from sidestep.doctor.known_seeds import check_pictures

    findings = list(check_pictures(ModelFolder.open(model)))
    if problems := [str(finding) for finding in findings if finding.level == "problem"]:
        raise CertificateFailed("; ".join(problems))
    write_json(out, [asdict(finding) for finding in findings])
    return f"{sum(finding.level == 'ok' for finding in findings)} checks passed"


def evaluate(options: RunOptions, model: Path) -> str:
    """Judge the pictures of emoji."""
    with needing("eval"):
        from bench.quality.evaluate import evaluate
        from bench.quality.report import write_report
    from bench.reports import told_command

    quality = evaluate(model, options.out / "pictures", judged(options))
    write_report(quality, options.out / "quality", command=told_command())
    closed = f", {quality.closed:.0%} of the way from the start" if quality.closed else ""
    teacher = f", its teacher's {quality.teacher.seen.frechet:.4f}" if quality.teacher else ""
    return f"Fréchet distance {quality.student.seen.frechet:.4f}{teacher}{closed}"


def check_judge(options: RunOptions) -> None:
    """Import what judges; raises BackendUnavailable where its extra is missing."""
    with needing("eval"):
        import_module(f"bench.quality.{'judge' if options.preset == EMOJI else 'extractors'}")


def judged(options: RunOptions) -> EvaluateOptions:
    """Say what the judge is shown: of a short run few pictures, at the teacher's known guidance."""
    with needing("eval"):
        from bench.quality.evaluate import EvaluateOptions
    from distill.measure import known_guidance

    images, guidance = (
        FEW_PICTURES if options.is_short else PICTURES,
        known_guidance(options.teacher),
    )
    return EvaluateOptions(images, start=True, brief=options.is_short, guidance=guidance)


def judge_hash() -> str:
    """Hash the judge."""
    with needing("eval"):
        from bench.quality.judge import WEIGHTS, find_judge
    return sha256(find_judge() / WEIGHTS)


def evaluate_coco(options: RunOptions, model: Path) -> str:
    """Score the model as the paper does."""
    with needing("eval"):
        from bench.quality.extractors import Inception, OpenClip
        from bench.quality.paper_report import CocoOptions, evaluate_coco
    from bench.reports import told_command

    assert options.coco is not None
    coco = CocoOptions(
        model,
        options.coco,
        options.out / "coco",
        preset=options.preset,
        command=told_command(),
        apart=True,  # the run's model may be another one next time
    )
    evaluate_coco(coco, lambda: (Inception(device=options.device), OpenClip(device=options.device)))
    return f"in {coco.out / 'paper.md'}"


def bench(options: RunOptions, model: Path, out: Path) -> str:
    """Time the engine that serving chooses, from prompts to pixels.

    Raises BenchmarkFailed where it dies meanwhile; what was measured until then is in `out`.
    """
    from bench.contender import Entry
    from bench.engine import Plan, measure

    plan = Plan(
        batches=FEW_BATCHES if options.is_short else BATCHES,
        seconds=FEW_BENCH_S if options.is_short else BENCH_S,
        peak_s=0.0 if options.is_short else 1.0,
        tell=lambda line: None,
    )
    report = measure(ModelFolder.open(model), [Entry("engine:auto")], plan)
    report.write(out)
    if report.failed:
        raise BenchmarkFailed(report.failed)
    row = report.rows[0]
    median = row["latency_ms"]["p50"]
    told = f"{median['value']:.1f} ms a picture" if median else "too slow for a median in this time"
    return f"{told}, {row['name']}"


def here() -> list[Any]:
    """Identify what a latency depends on besides the model."""
    from bench.machine import machine, versions

    told = machine()
    return [told["cpu"], told["cores"], gpu_names(), versions()]


def bound_to() -> list[Any]:
    """Identify what a compiled plan is bound to besides the model."""
    from sidestep.engines.tensorrt_library import driver_of

    return [here(), driver_of()]


def gpu_names() -> list[str]:
    """Name the GPUs, for which plans are compiled."""
    from bench.machine import gpus

    return [gpu["name"] for gpu in gpus()]


def card(options: RunOptions, model: Path, measured: Sequence[Path]) -> str:
    """Write the model card from what the other stages measured on this model.

    A file may be left from the one before: no stage measures on COCO without `--coco`.
    """
    from sidestep.pipeline.measured import gather, is_of
    from sidestep.pipeline.model_card import write_model_card

    folder = ModelFolder.open(model)
    folder = gather(folder, *(file for file in measured if file.is_file() and is_of(folder, file)))
    return str(write_model_card(folder, teacher=None if options.preset == EMOJI else False))
