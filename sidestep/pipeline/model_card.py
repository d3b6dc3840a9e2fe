"""A model's README and sample grid, written from its card and certificates; nothing is typed."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path

from bench.markdown import number, table
from bench.quality.published import TABLE_3, Row, tables_1_and_2
from distill.emoji_sources import KEYWORDS, SOURCES
from distill.many_steps import TEACHER_STEPS, ManyStepTeacher
from distill.presets import PRESETS
from distill.progress import save_grid
from sidestep.files import write_bytes
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import ModelCard, ModelFolder, write_card
from sidestep.pipeline.measured import SOURCES as WHO

EMOJI_LIMITS = (
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
LIMITS = (
    "A student is no better than its teacher: what fails there, such as hands, counts and written "
    "words, fails here, and the teacher's biases are kept. Guidance was fixed by the distillation, "
    "so that a request has no scale and no negative prompt. It draws at one size only."
)
GUIDANCE, USUAL_GUIDANCE = "teacher_guidance", 1.5  # in the card, and where that knows none
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


def write_model_card(folder: ModelFolder, *, teacher: bool | None = None) -> Path:
    """Draw the examples at seed 0, and write `README.md` beside the grid; returns its path.

    The model's own card gains its styles and limits, which the page shows.
    teacher: whether it draws too, with 50 DDIM steps at the guidance scale that serves it best; if
        absent, where the card knows that scale
    """
    card = folder.card
    teacher = GUIDANCE in card.quality if teacher is None else teacher
    prompts = list(card.examples)
    seeds = [0] * len(prompts)
    rows = [[decode(p.data) for p in Generator.load(folder.path).draw(prompts, seeds)]]
    if teacher:
        drawn = ManyStepTeacher(folder.path).draw(prompts, seeds, guidance_scale=_scale(card))
        rows.append(list(drawn))
    save_grid(folder.path / "samples.png", rows)
    if _is_emoji(card):
        styles = tuple(source.style for source in SOURCES)
        card = replace(card, styles=styles, licences=_emoji_licences())
    folder = write_card(folder.path, replace(card, limits=_limits(card)))
    path = folder.path / "README.md"
    write_bytes(path, _text(folder, with_teacher=teacher).encode())
    return path


def _text(folder: ModelFolder, *, with_teacher: bool) -> str:
    card = folder.card
    parts = [
        _front(card),
        f"# {card.name}",
        _about(card),
        _samples(card, with_teacher=with_teacher),
        _usage(folder),
        "## Recipe",
        table(["", ""], _recipe(card)),
        *_section("## Quality", _quality(card), _recognised(card), _paper(card)),
        *_section("## Latency", _latency(card)),
        *_section("## Engines", _certificates(folder)),
        "## Licences",
        _licences(card),
        "## Limits",
        textwrap.fill(card.limits, 100),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scale(card: ModelCard) -> float:
    return float(card.quality.get(GUIDANCE, USUAL_GUIDANCE))


def _section(heading: str, *parts: str) -> list[str]:
    """Leave out a heading under which nothing stands."""
    return [heading, *parts] if any(parts) else []


def _front(card: ModelCard) -> str:
    names = set(card.licences.values())
    licence = "apache-2.0" if _is_emoji(card) else names.pop().lower() if len(names) == 1 else ""
    head = [f"license: {licence or 'other'}", "library_name: diffusers"]
    return "\n".join(["---", *head, "pipeline_tag: text-to-image", "---"])


def _is_emoji(card: ModelCard) -> bool:
    """Whether this repository trained the teacher, on emoji."""
    return bool(card.recipe.get("teacher"))


def _limits(card: ModelCard) -> str:
    """Say what the model cannot do, which depends on what its teacher saw last."""
    if not _is_emoji(card):
        return card.limits or LIMITS
    composed = any(card.recipe["teacher"]["teacher"][-1].get("groups", ())[1:])
    return COMPOSED_LIMITS if composed else EMOJI_LIMITS


def _evaluations(card: ModelCard) -> str:
    return "one network evaluation" if card.steps == 1 else f"{card.steps} network evaluations"


def _about(card: ModelCard) -> str:
    height, width = card.image_size
    kind = "one-step" if card.steps == 1 else f"{card.steps}-step"
    what = "pictures of emoji" if _is_emoji(card) else "pictures"
    trained = " that it trained from nothing" if _is_emoji(card) else ""
    text = (
        f"A {kind} text-to-image generator for {width}x{height} {what}, distilled with SiD-LSG by "
        f"sidestep from a teacher{trained}."
    )
    return textwrap.fill(text, 100)


def _samples(card: ModelCard, *, with_teacher: bool) -> str:
    below, told = "", ""
    if with_teacher:
        below = f" Bottom: its teacher, {TEACHER_STEPS} steps."
        told = (
            f"\nBottom row: its teacher, same noise, {TEACHER_STEPS} DDIM steps at guidance "
            f"{_scale(card):g}, {2 * TEACHER_STEPS} evaluations each."
        )
    return (
        f"![Top: this model, {_evaluations(card)}.{below}](samples.png)\n\n"
        f"Seed 0, from left: {', '.join(card.examples)}.\n"
        f"Top row: this model, {_evaluations(card)} a picture.{told}"
    )


def _usage(folder: ModelFolder) -> str:
    schedule, prompt = folder.schedule, (folder.card.examples or ("red apple",))[0]
    call = "num_inference_steps=1, guidance_scale=1"
    if schedule.steps > 1:
        timesteps, scale = list(schedule.timesteps), schedule.sigma_init
        call = f"timesteps={timesteps}, guidance_scale=1, latents={scale:.6f} * z"
    return (
        "```python\nfrom sidestep.generator import Generator\n\n"
        f'Generator.load("path/to/{folder.card.name}")("{prompt}", seed=7).save("a.png")\n```\n\n'
        f"diffusers opens this folder too: `{call}`."
    )


def _recipe(card: ModelCard) -> list[list[str]]:
    recipe, guidance = card.recipe, card.recipe.get("guidance", {})
    kappas = ", ".join(f"{guidance.get(f'kappa{i}', '?')}" for i in range(1, 5))
    rows = [
        ["weights", f"`{card.weights[:16]}`"],
        ["guidance κ1…κ4", kappas],
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
    phases = (recipe.get("teacher") or {}).get("teacher", ())
    rows += [
        [
            f"teacher, part {count}" if len(phases) > 1 else "teacher",
            f"{phase['steps']:,} steps of {phase['batch']} on {phase['pictures']:,} pictures",
        ]
        for count, phase in enumerate(phases, 1)
    ]
    return rows


def _quality(card: ModelCard) -> str:
    """Write what the judge of emoji said, where it was asked."""
    quality = card.quality
    if "frechet" not in quality:
        return ""
    titles = {
        "real": "real pictures",
        "start": "before the first update",
        "student": "this model",
        "teacher": f"teacher at {quality.get('teacher_guidance', 0):g}",
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


def _recognised(card: ModelCard) -> str:
    """Write what was recognised by the nearest training picture, and the autoencoder's figures."""
    quality, lines = card.quality, []
    if "recognised" in quality:
        lines.append(
            f"Recognised, of {quality['captions']} captions at seed 0: "
            f"{quality['recognised']:.0%}, its teacher {quality['teacher_recognised']:.0%}. A "
            "picture counts as recognised if, of all training pictures, the one nearest to it "
            "bears its caption (root mean square at 16x16): blind to fine detail."
        )
    if "lighter_psnr_db" in quality:
        lines.append(
            f"Autoencoder, {quality['lighter_pictures']:.0f} pictures that it never saw: "
            f"{quality['lighter_psnr_db']} dB PSNR, {quality['lighter_ssim']} SSIM."
        )
    return "\n\n".join(textwrap.fill(line, 100) for line in lines)


def _paper(card: ModelCard) -> str:
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


_COCO = {"fid": "FID", "clip": "CLIP score", "precision": "precision", "recall": "recall"}


def _published(row: Row) -> list[str]:
    return [row.label, *(_cell(getattr(row, name)) for name in _COCO)]


def _cell(value: float | None) -> str:
    return "" if value is None else number(float(value))


def _latency(card: ModelCard) -> str:
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


def _certificates(folder: ModelFolder) -> str:
    rows = []
    for file in sorted(folder.path.rglob("certificate.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        psnr = "equal" if told["psnr_db"] is None else f"{told['psnr_db']} dB"
        rows.append(
            [
                f"`{file.parent.relative_to(folder.path)}`",
                told["precision"],
                f"{told['largest_difference']}/255",
                psnr,
                f"{told['batch_invariance']}/255",
            ]
        )
    head = ["certificate", "precision", "largest difference", "PSNR", "alone or in a batch"]
    return f"Against fp32 PyTorch on fixed prompts and seeds:\n\n{table(head, rows)}" * bool(rows)


def _emoji_licences() -> dict[str, str]:
    """Name the licence of the weights, and those of the pictures that they learned from."""
    pictures = {f"{s.style}, by {s.author}": s.licence for s in SOURCES}
    return {"weights": "Apache-2.0", **pictures}


def _licences(card: ModelCard) -> str:
    told = "\n".join(f"- {what}: {licence}" for what, licence in card.licences.items())
    if not _is_emoji(card):
        return told or (
            "The teacher's licence holds for these weights; its folder does not name one."
        )
    sources = [*SOURCES]
    if card.limits == COMPOSED_LIMITS:
        sources.append(replace(KEYWORDS, style="synonyms"))
    rows = [[s.style, s.author, f"`{s.package}`", s.licence] for s in sources]
    return (
        "The weights are under Apache-2.0. The training pictures, rendered on white and captioned "
        f"by name:\n\n{table(['style', 'author', 'npm package', 'licence'], rows)}"
    )
