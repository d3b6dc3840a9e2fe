"""A model's README and sample grid, written from its card and certificates; nothing is typed."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

from bench.markdown import table
from distill.emoji_sources import KEYWORDS, SOURCES
from distill.folders import teacher_of
from distill.many_steps import TEACHER_STEPS, ManyStepTeacher
from distill.progress import save_grid
from export.certificate import PROMPTS
from sidestep.files import one_at_a_time, write_bytes
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import CARD, ModelCard, ModelFolder, write_card
from sidestep.pipeline import card_tables as tables

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


def write_model_card(folder: ModelFolder, *, teacher: bool | None = None) -> Path:
    """Draw the examples at seed 0, and write `README.md` beside the grid; returns its path.

    The model's own card gains its styles and limits, which the page shows.
    teacher: whether it draws too, with 50 DDIM steps at the guidance scale that serves it best; if
        absent, where the card knows that scale and the folder, or that of a companion, carries it
    """
    card = folder.card
    if teacher is None:
        teacher = GUIDANCE in card.quality and (teacher_of(folder) / "teacher").is_dir()
    prompts = list(_examples(card))
    seeds = [0] * len(prompts)
    rows = [[decode(p.data) for p in Generator.load(folder.path).draw(prompts, seeds)]]
    if teacher:
        many_steps = ManyStepTeacher(teacher_of(folder))
        rows.append(list(many_steps.draw(prompts, seeds, guidance_scale=_scale(card))))
    save_grid(folder.path / "samples.png", rows)
    with one_at_a_time(folder.path / CARD):
        card = ModelFolder.open(folder.path).card  # others may have written it meanwhile
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
        tables.recipe(card),
        *_section("## Quality", tables.quality(card), tables.recognised(card), tables.paper(card)),
        *_section("## Ablation", tables.ablations(folder)),
        *_section("## Latency", tables.latency(card)),
        *_section("## Engines", tables.certificates(folder)),
        "## Licences",
        _licences(card),
        "## Limits",
        textwrap.fill(card.limits, 100),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _examples(card: ModelCard) -> tuple[str, ...]:
    """Choose what is drawn as samples; an imported model names no examples of its own."""
    return card.examples or PROMPTS


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
    return bool(tables.training(card))


def _limits(card: ModelCard) -> str:
    """Say what the model cannot do, which depends on what its teacher saw last."""
    if not _is_emoji(card):
        return card.limits or LIMITS
    composed = any(tables.training(card)["teacher"][-1].get("groups", ())[1:])
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
        f"Seed 0, from left: {', '.join(_examples(card))}.\n"
        f"Top row: this model, {_evaluations(card)} a picture.{told}"
    )


def _usage(folder: ModelFolder) -> str:
    schedule, prompt = folder.schedule, _examples(folder.card)[0]
    call = "num_inference_steps=1, guidance_scale=1"
    if schedule.steps > 1:
        timesteps, scale = list(schedule.timesteps), schedule.sigma_init
        call = f"timesteps={timesteps}, guidance_scale=1, latents={scale:.6f} * z"
    opens = f"\n\ndiffusers opens this folder too: `{call}`."
    return (
        "```python\nfrom sidestep.generator import Generator\n\n"
        f'Generator.load("path/to/{folder.card.name}")("{prompt}", seed=7).save("a.png")\n```'
        + (opens if folder.has("model_index.json") else "")  # a companion is no whole pipeline
    )


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
