"""The tables of a model's README: its recipe, what was measured of it, its certificates."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from bench.markdown import ablation_text, number, table
from bench.quality.made import told_kappas
from bench.quality.published import TABLE_3, Row, tables_1_and_2
from bench.reports import Report
from distill.presets import PRESETS
from sidestep.model_folder import CERTIFICATE, ModelCard, ModelFolder
from sidestep.pipeline.measured import ABLATIONS
from sidestep.pipeline.measured import SOURCES as WHO

_NAMES = {
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "clip": "CLIP score",
    "named": "named, top 3 of all names",
    "styled": "style right",
    "held_out_clip": "CLIP score, held out",
    "held_out_named": "named, held out",
    "diversity": "diversity",
}
_COCO = {"fid": "FID", "clip": "CLIP score", "precision": "precision", "recall": "recall"}


def recipe(card: ModelCard) -> str:
    """Write what the distillation was asked for, its losses, and how the teacher was trained.

    `trained` tells how long both learned, the teacher with its autoencoders.
    """
    recipe = card.recipe
    rows = [
        ["weights", f"`{card.weights[:16]}`"],
        ["guidance κ1…κ4", told_kappas(card)],
        ["images seen", number(recipe.get("images_seen"))],
        ["prompts", number(recipe.get("prompts"))],
        ["batch, learning rate", f"{recipe.get('batch')}, {recipe.get('learning_rate')}"],
        ["number format", str(recipe.get("precision", "unknown"))],
    ]
    losses = recipe.get("losses") or {}
    for name, told in (
        ("fake", "fake score's loss"),
        ("generator", "generator's loss"),
        ("fisher", "Fisher divergence"),
    ):
        if name in losses:
            rows.append([told, " → ".join(number(float(value)) for value in losses[name])])
    phases = training(card).get("teacher", ())
    rows += [
        [
            f"teacher, part {count}" if len(phases) > 1 else "teacher",
            f"{phase['steps']:,} steps of {phase['batch']} on {phase['pictures']:,} pictures",
        ]
        for count, phase in enumerate(phases, 1)
    ]
    if "trained_s" in card.quality:
        on = card.quality.get("trained_on", "unknown")
        rows.append(["trained", f"{_hours(card.quality['trained_s'])} on {on}"])
    return table(["", ""], rows)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


def training(card: ModelCard) -> dict[str, Any]:
    """Return how this repository trained the teacher; of another's there is nothing to tell."""
    told = card.recipe.get("teacher")
    return told if isinstance(told, dict) else {}  # once imported models had the base's name here


def quality(card: ModelCard) -> str:
    """Write what the judge of emoji said, where it was asked."""
    quality = card.quality
    if "frechet" not in quality:
        return ""
    guidance = quality.get("judged_guidance", quality.get("teacher_guidance", 0))  # older cards
    titles = {
        "real": "real pictures",
        "start": "before the first update",
        "student": "this model",
        "teacher": f"teacher at {guidance:g}",
    }
    shown = [who for who in titles if f"{WHO[who]}frechet" in quality]
    rows = [
        [title, *(number(quality[key]) if (key := WHO[who] + name) in quality else "-"
                  for who in shown)]
        for name, title in _NAMES.items()
        if any(WHO[who] + name in quality for who in shown)
    ]  # fmt: skip
    by = quality["judged_by"]
    told = (
        f"{quality['judged_pictures']:,} pictures, by the judge `{quality['judge'][:16]}`: "
        f"`{by['command']}`, {by['date']}, {by['machine']}."
    )
    closed = ""
    if "closed" in quality:
        closed = f"\nOf the distance from start to teacher {quality['closed']:.0%} are closed."
    return f"{table(['', *(titles[who] for who in shown)], rows)}\n\n{told}{closed}"


def recognised(card: ModelCard) -> str:
    """Write what was recognised by the nearest training picture, and the autoencoder's figures."""
    quality, lines = card.quality, []
    if "recognised" in quality:
        lines.append(
            f"Recognised, of {quality['captions']} captions at seed 0: "
            f"{quality['recognised']:.0%}, its teacher {quality['teacher_recognised']:.0%}. A "
            "picture counts as recognised if, of all training pictures, the one nearest to it "
            "bears its caption (root mean square at 16x16): blind to fine detail."
        )
    shipped = "lighter" if "lighter_psnr_db" in quality else "autoencoder"
    if f"{shipped}_psnr_db" in quality:
        lines.append(
            f"Autoencoder, {quality[f'{shipped}_pictures']:.0f} pictures that it never saw: "
            f"{quality[f'{shipped}_psnr_db']} dB PSNR, {quality[f'{shipped}_ssim']} SSIM."
        )
    return "\n\n".join(textwrap.fill(line, 100) for line in lines)


def paper(card: ModelCard) -> str:
    """Write the paper's results of the same preset, with this model's where it was scored."""
    preset = card.recipe.get("preset")
    if preset not in PRESETS or not PRESETS[preset].published:
        return ""
    scores = {name: card.quality.get(f"coco_{name}") for name in _COCO}
    told = "not scored yet: sidestep evaluate-coco" if scores["fid"] is None else ""
    mine = [f"**this model** {told}".strip(), *(_cell(scores[name]) for name in _COCO)]
    rows = [mine, *(_published(row) for row in (*tables_1_and_2(preset), *TABLE_3))]
    return (
        f"COCO-2014, zero-shot, beside the paper's results for {preset} (Tables 1, 2) and for "
        f"strategies on Stable Diffusion 1.5 (Table 3):\n\n{table(['', *_COCO.values()], rows)}"
    )


def _published(row: Row) -> list[str]:
    return [row.label, *(_cell(getattr(row, name)) for name in _COCO)]


def _cell(value: float | None) -> str:
    return "" if value is None else number(float(value))


def ablations(folder: ModelFolder) -> str:
    """Write how other students of the same teacher, distilled otherwise, compare."""
    parts = []
    for file in sorted((folder.path / ABLATIONS).glob("*.json")):
        report = Report.read(file)
        parts += [
            ablation_text(report),
            f"{report.settings['pictures']:,} pictures of each: `{report.command}`, "
            f"{report.date[:10]}, {report.machine['cpu']}.",
            *report.notes,
        ]
    return "\n\n".join(["Other students of the same teacher:"] * bool(parts) + parts)


def latency(card: ModelCard) -> str:
    """Write the engines' times, with what makes them invalid."""
    told = card.latency
    if not told:
        return ""
    rows = [
        [row["engine"], str(row["batch"]), *map(number, (row["p50_ms"], row["p95_ms"])),
         number(row["images_per_s"])]
        for row in told["rows"]
    ]  # fmt: skip
    faults = "".join(f"\n\n**Invalid: {fault}.**" for fault in told["invalid_because"])
    return (
        table(["engine", "batch", "p50 ms", "p95 ms", "pictures/s"], rows)
        + f"\n\n`{told['command']}`, {told['date']}, {told['machine']}, {told['cores']} cores."
        + faults
    )


def certificates(folder: ModelFolder) -> str:
    """Write how near every compiled engine is to the reference, or the graph of one not run."""
    rows = []
    for file in sorted(folder.path.rglob(CERTIFICATE)):
        if any(part.startswith(".") for part in file.relative_to(folder.path).parts):
            continue  # of an export that was killed
        told = json.loads(file.read_text(encoding="utf-8"))
        psnr = "equal" if told["psnr_db"] is None else f"{told['psnr_db']} dB"
        run = told.get("proof", {}).get("plan", {}).get("run", True)
        rows.append(
            [
                f"`{file.parent.relative_to(folder.path)}`" + (", its graph" * (not run)),
                told["precision"],
                f"{told['largest_difference']}/255",
                psnr,
                f"{told['batch_invariance']}/255",
            ]
        )
    head = ["certificate", "precision", "largest difference", "PSNR", "alone or in a batch"]
    return f"Against fp32 PyTorch on fixed prompts and seeds:\n\n{table(head, rows)}" * bool(rows)
