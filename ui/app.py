"""The page: a prompt box whose picture follows your typing.

Gradio serves the page, its theme and its two endpoints, `draw` and `read`. What happens between a
key press and the endpoint is JavaScript of our own in `ui/page/`, because Gradio's events can
neither drop a stale answer nor tell a picture's way from the key to the screen.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from sidestep.model_info import ModelInfo
from ui.answers import Generate, draw_answer, read_answer

PAGE = Path(__file__).parent / "page"
# Seconds between looks for files to delete, and the age of a file that is deleted.
_CACHE = (3600, 3600)
_ENDPOINTS = ("run/draw", "run/read")
# All that the page reads of Gradio's interface: other routes fetch what a caller names.
_READ = re.compile(r"heartbeat/[^/]+|info/?|startup-events|app_id/?|theme\.css")
_START = """
const at = (file) => new URL(file, document.baseURI);
const told = fetch(at("models.json"))
  .then((answer) => (answer.ok ? answer.json() : props.models))
  .catch(() => props.models);
import(at("FILES/page.js")).then(async (page) => page.start(element, await told));
"""


def build(generate: Generate, models: Sequence[ModelInfo]) -> gr.Blocks:
    """Build the page around `generate`; it opens with the first of `models`.

    Give it to `mount`, which serves the files that it asks for.
    """
    several = len(models) > 1

    async def draw(prompt: str, seed: str, count: int, model: str, tab: str) -> dict[str, Any]:
        """Draw `count` pictures of consecutive seeds; a newer call of the same tab replaces it."""
        values = {"prompt": prompt, "seed": seed, "count": count, "client_id": tab}
        # A service of one model needs no name, and has none that a link could get wrong.
        return await draw_answer(generate, {**values, "model": model} if several else values)

    async def read(file: str) -> dict[str, Any]:
        """Read the recipe inside a picture file, given as base64."""
        return await read_answer(file)

    with gr.Blocks(title="sidestep", analytics_enabled=False, delete_cache=_CACHE) as page:
        gr.HTML(
            html_template=(PAGE / "page.html").read_text(encoding="utf-8"),
            js_on_load=_START.replace("FILES", _files()),
            models=[asdict(model) for model in models],
            apply_default_css=False,
        )
        for endpoint in (draw, read):
            # Not through Gradio's queue: pictures are queued where they are drawn.
            gr.api(endpoint, api_name=endpoint.__name__, queue=False, api_visibility="undocumented")
    return page


def mount(
    page: gr.Blocks, path: str, models: Callable[[], Awaitable[Sequence[ModelInfo]]]
) -> FastAPI:
    """Return an app that serves `page` at `path` and asks no other host for anything.

    models: what is served at the moment; models may be opened anew while the page stands
    Its `state.close` ends the connection that every open page holds.
    """
    _warm_up()
    app = FastAPI(openapi_url=None)
    root = path.rstrip("/")
    app.mount(f"{root}/{_files()}", StaticFiles(directory=PAGE))

    @app.get(f"{root}/models.json")
    async def told() -> JSONResponse:
        """Tell the page that opens what draws now."""
        shown = [asdict(model) for model in await models()]
        return JSONResponse(shown, headers={"Cache-Control": "no-store"})

    gr.mount_gradio_app(
        app,
        page,
        path=path,
        theme=_theme(),
        head=f'<link rel="stylesheet" href="{_files()}/page.css">',
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size="1mb",
    )
    mounted: Any = app.routes[-1]
    app.state.close = mounted.app.stop_event.set
    app.add_middleware(OnlyOurEndpoints)
    return app


class OnlyOurEndpoints:
    """Middleware that lets Gradio answer what the page asks, its two endpoints among it.

    Gradio would draw for `call/draw` in a task of its own, apart from the request, its key and its
    rates, keep files that anybody uploads, and fetch `file=https://...` from anywhere.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the page's app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass reads and our two endpoints on, and answer 404 to the rest."""
        if scope["type"] != "http" or _is_ours(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
        else:
            error = {"code": "not_found", "message": "nothing is served here", "field": None}
            await JSONResponse({"error": error}, 404)(scope, receive, send)


def _is_ours(method: str, path: str) -> bool:
    """Whether the page asks for this."""
    _, interface, asked = path.partition("/gradio_api/")  # the first: an address may have another
    if method not in ("GET", "HEAD", "OPTIONS"):
        return asked in _ENDPOINTS
    return not interface or bool(_READ.fullmatch(asked))


def _warm_up() -> None:
    """Import here what Gradio else imports at its first call, for a second, on the event loop."""
    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib").use("agg")


def _files() -> str:
    """Name the folder of the page's own files by their contents, so that no browser mixes two."""
    contents = b"".join(file.read_bytes() for file in sorted(PAGE.iterdir()) if file.is_file())
    return f"page-{hashlib.sha256(contents).hexdigest()[:12]}"


def _theme() -> Any:
    """Return Gradio's theme with the fonts that every system has."""
    text = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "Consolas", "monospace")]
    return gr.themes.Default(font=text, font_mono=mono)
