"""A model's README: a sample grid and what was measured, written from the files beside it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.emoji_sources import KEYWORDS, SOURCES, Source
from distill.many_steps import TEACHER_STEPS, ManyStepTeacher
from distill.progress import save_grid
from sidestep.files import write_bytes
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import CERTIFICATE, ModelFolder, write_card

LIMITS = (
    'It knows emoji by their names, in English, with an optional style word ("red apple, noto"): '
    "about a thousand subjects in four styles, and no people, symbols or flags. It cannot count or "
    "compose two things. A student is no better than its teacher."
)
COMPOSED_LIMITS = (
    'It knows emoji by their names and synonyms, in English, with an optional style word ("red '
    'apple, noto"), in seven colours ("blue apple") and in pairs ("cat face with red heart"): '
    "about a thousand subjects in four styles, and no people, symbols or flags. It cannot count. A "
    "student is no better than its teacher."
)


def write_model_card(folder: ModelFolder) -> Path:
    """Draw the examples at seed 0 by student and teacher, and write `README.md` beside the grid.

    The model's own card gains its styles and limits, which the page shows.
    The teacher takes 50 DDIM steps at the guidance scale that `distill.measure` found.
    """
    guidance_scale = folder.card.quality["teacher_guidance"]
    generator = Generator.load(folder.path)
    prompts = list(folder.card.examples)
    student = [decode(p.data) for p in generator.draw(prompts, [0] * len(prompts))]
    teacher = draw_teacher(folder.path, prompts, guidance_scale=guidance_scale)
    save_grid(folder.path / "samples.png", [student, list(teacher)])
    styles = tuple(source.style for source in SOURCES)
    folder = write_card(folder.path, replace(folder.card, styles=styles, limits=_limits(folder)))
    path = folder.path / "README.md"
    write_bytes(path, _text(folder, guidance_scale).encode())
    return path


def draw_teacher(path: Path, prompts: list[str], *, guidance_scale: float) -> NDArray[np.uint8]:
    """Draw prompts at seed 0 with the teacher that a model folder carries: [B, H, W, 3]."""
    teacher = ManyStepTeacher(path)
    return teacher.draw(prompts, [0] * len(prompts), guidance_scale=guidance_scale)


def _text(folder: ModelFolder, guidance_scale: float) -> str:
    card = folder.card
    height, width = card.image_size
    kind, evaluations = "one-step", "one network evaluation"
    if card.steps > 1:
        kind, evaluations = f"{card.steps}-step", f"{card.steps} network evaluations"
    rows = "\n".join(f"| {key} | {value} |" for key, value in _rows(folder))
    sources = "\n".join(
        f"| {s.style} | {s.author} | `{s.package}` | {s.licence} |"
        for s in (*SOURCES, *_keywords(card.limits))
    )
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# {card.name}

A {kind} text-to-image generator for {width}x{height} pictures of emoji, distilled with SiD-LSG by
this repository from a teacher that it trained from nothing.

![Top: this model, {evaluations}. Bottom: its teacher, {TEACHER_STEPS} steps.](samples.png)

Seed 0, from left: {", ".join(card.examples)}.
Top row: this model, {evaluations} a picture. Bottom row: its teacher, same noise,
{TEACHER_STEPS} DDIM steps at guidance {guidance_scale:g}, {2 * TEACHER_STEPS} evaluations each.

```python
from sidestep.generator import Generator

Generator.load()("red apple", seed=7).save("a.png")
```

diffusers opens this folder too: `{_call(folder)}`.

## Measured

| | |
|---|---|
{rows}

A picture counts as recognised if, of all training pictures, the one nearest to it bears its
caption (root mean square at 16x16): a stand-in for a person, blind to fine detail.

## Data and licences

The weights are under Apache-2.0. The training pictures, rendered on white and captioned by name:

| style | author | npm package | licence |
|---|---|---|---|
{sources}

## Limits

{textwrap.fill(card.limits, 100)}
"""


def _call(folder: ModelFolder) -> str:
    """Tell what a diffusers pipeline is called with to draw what this model draws."""
    schedule = folder.schedule
    if schedule.steps == 1:
        return "num_inference_steps=1, guidance_scale=1"
    timesteps, scale = list(schedule.timesteps), schedule.sigma_init
    return f"timesteps={timesteps}, guidance_scale=1, latents={scale:.6f} * z"


def _limits(folder: ModelFolder) -> str:
    """Say what the model cannot do, which depends on what its teacher saw last."""
    training = folder.card.recipe.get("teacher") or {"teacher": [{}]}
    composed = any(training["teacher"][-1].get("groups", ())[1:])
    return COMPOSED_LIMITS if composed else LIMITS


def _keywords(limits: str) -> tuple[Source, ...]:
    """Return where the synonyms come from, if there are any."""
    return (replace(KEYWORDS, style="synonyms"),) if limits == COMPOSED_LIMITS else ()


def _rows(folder: ModelFolder) -> list[tuple[str, Any]]:
    recipe = folder.card.recipe
    guidance = recipe.get("guidance", {})
    kappas = ", ".join(f"{guidance.get(f'kappa{i}', '?')}" for i in range(1, 5))
    rows: list[tuple[str, Any]] = [
        ("weights", f"`{folder.card.weights[:16]}`"),
        ("SiD-LSG guidance κ1…κ4", kappas),
        ("images seen in distillation", f"{recipe.get('images_seen', 0):,}"),
        ("prompts", f"{recipe.get('prompts', 0):,}"),
        ("batch, learning rate", f"{recipe.get('batch')}, {recipe.get('learning_rate')}"),
        *_teacher_rows(recipe.get("teacher")),
        *_quality_rows(folder.card.quality),
    ]
    if folder.has(CERTIFICATE):
        certificate = json.loads((folder.path / CERTIFICATE).read_text(encoding="utf-8"))
        rows += [
            ("ONNX against PyTorch, largest", f"{certificate['largest_difference']}/255"),
            ("the same picture alone and in a batch", f"{certificate['batch_invariance']}/255"),
        ]
    return rows


def _quality_rows(quality: dict[str, Any]) -> list[tuple[str, Any]]:
    count = quality["captions"]
    autoencoder = (
        [
            (
                f"autoencoder, {quality['lighter_pictures']:.0f} pictures that it never saw",
                f"{quality['lighter_psnr_db']} dB PSNR, {quality['lighter_ssim']} SSIM",
            )
        ]
        if "lighter_psnr_db" in quality
        else []
    )
    return [
        *autoencoder,
        (f"recognised, of {count} captions at seed 0", f"{quality['recognised']:.0%}"),
        (
            f"the same of the teacher, guidance {quality['teacher_guidance']:g}",
            f"{quality['teacher_recognised']:.0%}",
        ),
    ]


def _teacher_rows(training: dict[str, Any] | None) -> list[tuple[str, Any]]:
    phases = training["teacher"] if training else []
    return [
        (
            f"teacher, part {number}" if len(phases) > 1 else "teacher",
            f"{phase['steps']:,} steps of {phase['batch']} on {phase['pictures']:,} pictures",
        )
        for number, phase in enumerate(phases, 1)
    ]
