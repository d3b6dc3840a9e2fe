"""How the page looks: system fonts only, so that it asks no other host for anything."""

from __future__ import annotations

from typing import Any

import gradio as gr

SMALL_PX = 256


def theme() -> Any:
    """Return Gradio's theme with the fonts that every system has."""
    text = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "Consolas", "monospace")]
    return gr.themes.Default(font=text, font_mono=mono, primary_hue="blue")


def css(image_size: tuple[int, int]) -> str:
    """Return the page's style; pictures (H, W) of small models are scaled with hard pixels."""
    height, width = image_size
    rendering = "pixelated" if max(height, width) <= SMALL_PX else "auto"
    return _CSS.replace("ASPECT", f"{width} / {height}").replace("RENDERING", rendering)


_CSS = """
.gradio-container { max-width: 60rem !important; margin: 0 auto; }
.picture { margin: 0; }
.picture img, .picture .nothing {
  display: block; width: 100%; max-width: 512px; aspect-ratio: ASPECT; margin: 0 auto;
  border-radius: 8px; image-rendering: RENDERING; background: var(--background-fill-secondary);
}
.picture figcaption { text-align: center; margin-top: .5rem; }
.picture figcaption a { color: var(--link-text-color); text-decoration: underline; }
.badge { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; margin: 0;
  color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.badge strong { color: var(--body-text-color); font-size: 1.25rem; }
.message { margin: .5rem 0 0; padding: .5rem .75rem; border-radius: 6px; overflow-wrap: anywhere; }
.message.error { background: #fdecea; color: #7a1410; }
.message.warning { background: #fff5d6; color: #5c4400; }
.dark .message.error { background: #4a1512; color: #ffdad6; }
.dark .message.warning { background: #453500; color: #ffe9a8; }
.examples { flex-wrap: wrap; gap: .5rem; }
.examples button { flex: 0 0 auto; min-width: 0; width: auto; }
"""
