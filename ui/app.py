"""The page: a prompt box whose picture follows your typing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ui import style, view
from ui.drawing import Generate, draw, new_seed

# Seconds between looks for files to delete, and the age of a file that is deleted.
_CACHE = (3600, 3600)


@dataclass(frozen=True)
class ShownModel:
    """What the page tells of a model: its pictures' (H, W) and prompts it draws well."""

    name: str
    image_size: tuple[int, int]
    examples: Sequence[str] = ()


@dataclass(frozen=True)
class _Parts:
    """The components that the page's one event reads and writes."""

    prompt: Any
    seed: Any
    keep: Any
    dice: Any
    examples: list[Any]
    picture: Any
    badge: Any
    message: Any


def build(generate: Generate, models: Sequence[ShownModel]) -> gr.Blocks:
    """Build the page around `generate`; the first of `models` is the one it shows."""
    model = models[0]
    with gr.Blocks(title="sidestep", analytics_enabled=False, delete_cache=_CACHE) as page:
        gr.Markdown(f"# sidestep\nOne network evaluation per picture, by the model *{model.name}*.")
        parts = _lay_out(model)
        _connect(page, generate, parts)
    page.sidestep_css = style.css(model.image_size)
    return page


def mount(page: gr.Blocks, path: str) -> FastAPI:
    """Return an app that serves `page` at `path` and asks no other host for anything."""
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path=path,
        theme=style.theme(),
        css=page.sidestep_css,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size="1mb",
    )


def _lay_out(model: ShownModel) -> _Parts:
    """Place the components: what to draw on the left (on a phone above), the picture right."""
    prompt_value = model.examples[0] if model.examples else "red apple"
    with gr.Row():
        with gr.Column(min_width=300):
            prompt = gr.Textbox(
                prompt_value, label="Prompt", lines=2, autofocus=True, elem_id="prompt"
            )
            with gr.Row():
                seed = gr.Textbox("0", label="Seed", max_lines=1, min_width=120, elem_id="seed")
                dice = gr.Button("New seed", min_width=90, elem_id="dice")
            keep = gr.Checkbox(True, label="Keep the seed while typing", elem_id="keep")
            message = gr.HTML(elem_id="message")
            with gr.Row(elem_classes="examples"):
                examples = [gr.Button(text, size="sm") for text in model.examples]
        with gr.Column(min_width=300):
            picture = gr.HTML(view.empty_html(), elem_id="picture")
            badge = gr.HTML(elem_id="badge")
    return _Parts(prompt, seed, keep, dice, examples, picture, badge, message)


def _connect(page: gr.Blocks, generate: Generate, parts: _Parts) -> None:
    """Draw on every edit; one event for all, so that the newest edit is always the last drawn."""
    texts = {button._id: button.value for button in parts.examples}

    async def follow(
        prompt: str, seed: str, keep: bool, event: gr.EventData
    ) -> tuple[Any, Any, Any, Any, Any]:
        source = event.target._id if event.target else None
        chosen = texts.get(source)
        fresh = source == parts.dice._id or (source == parts.prompt._id and not keep)
        seed = new_seed() if fresh else seed
        shown = await draw(generate, chosen or prompt, seed)
        return (
            chosen or gr.skip(),
            seed if fresh else gr.skip(),
            gr.skip() if shown.picture is None else shown.picture,
            gr.skip() if shown.badge is None else shown.badge,
            shown.message,
        )

    prompt, seed = parts.prompt, parts.seed
    clicks = [button.click for button in (parts.dice, *parts.examples)]
    gr.on(
        [page.load, prompt.input, prompt.submit, seed.input, seed.submit, *clicks],
        follow,
        [prompt, seed, parts.keep],
        [prompt, seed, parts.picture, parts.badge, parts.message],
        trigger_mode="always_last",
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )
