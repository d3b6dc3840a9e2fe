"""The page: a prompt box whose picture follows your typing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ui import style, view
from ui.drawing import Generate, draw, new_seed

_DRAW_SEED = "() => String(crypto.getRandomValues(new Uint32Array(1))[0])"
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
    report: Any


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
    """Return an app that serves `page` at `path` and asks no other host for anything.

    Its `state.close` ends the connection that every open page holds.
    """
    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app,
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
    mounted: Any = app.routes[-1]
    app.state.close = mounted.app.stop_event.set
    return app


def _lay_out(model: ShownModel) -> _Parts:
    """Place the components, so that on a phone the picture is right below the prompt."""
    first = model.examples[0] if model.examples else "red apple"
    prompt = gr.Textbox(first, label="Prompt", lines=1, autofocus=True, elem_id="prompt")
    with gr.Row(elem_classes="examples"):
        examples = [gr.Button(text, size="sm") for text in model.examples]
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            picture = gr.HTML(view.empty_html(), elem_id="picture")
        with gr.Column(scale=2, min_width=280):
            report = gr.HTML(elem_id="report")
            seed = gr.Textbox("0", label="Seed", max_lines=1, elem_id="seed")
            dice = gr.Button("New seed", elem_id="dice")
            keep = gr.Checkbox(True, label="Keep the seed while typing", elem_id="keep")
    return _Parts(prompt, seed, keep, dice, examples, picture, report)


_Drawn = tuple[str | None, str | None]  # the prompt and seed of the picture that is shown
_FAILED: _Drawn = (None, None)  # no picture is what was asked for: whatever comes next is drawn


def _connect(page: gr.Blocks, generate: Generate, parts: _Parts) -> None:
    """Draw on every edit; one event for all, so that the newest edit is always the last drawn.

    `change` and not `input`: in Gradio 6 a text box tells `input` only of key presses, and not
    of deleting, pasting or a phone's keyboard. Not through Gradio's queue: pictures are queued
    where they are drawn, and Gradio's computes statistics over its last 10,000 events at each.
    """

    async def follow(
        prompt: str, seed: str, keep: bool, drawn: _Drawn | None, request: gr.Request
    ) -> tuple[Any, Any, Any, Any]:
        if (prompt, seed) == drawn:  # the seed box, telling of the seed written below
            return (gr.skip(),) * 4
        fresh = not keep and drawn is not None and prompt != drawn[0]
        seed = new_seed() if fresh else seed
        shown = await draw(generate, prompt, seed, tab=request.session_hash)
        if shown.picture is None:
            return gr.skip(), gr.skip(), shown.report, _FAILED
        return seed if fresh else gr.skip(), shown.picture, shown.report, (prompt, seed)

    drawn = gr.State(None)
    gr.on(
        [page.load, parts.prompt.change, parts.prompt.submit, parts.seed.change],
        follow,
        [parts.prompt, parts.seed, parts.keep, drawn],
        [parts.seed, parts.picture, parts.report, drawn],
        trigger_mode="always_last",
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    # These edit a box in the browser, and the box's change draws.
    parts.dice.click(None, js=_DRAW_SEED, outputs=parts.seed)
    for button in parts.examples:
        button.click(None, js=f"() => {json.dumps(button.value)}", outputs=parts.prompt)
