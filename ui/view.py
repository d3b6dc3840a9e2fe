"""The page's HTML: everything that came from a person is escaped here."""

from __future__ import annotations

import base64
import re
from html import escape

from sidestep.images import MEDIA_TYPES
from sidestep.requests import Picture

# The link takes the picture's own data, so that it is saved byte for byte and sent only once.
_TAKE_DATA = "this.href=this.closest('figure').querySelector('img').src"


def picture_html(picture: Picture, prompt: str) -> str:
    """Show a picture through a data URI, which keeps its exact bytes, with a link to save it.

    Decoded before it is painted, so that replacing one picture by the next does not flicker.
    """
    data = base64.b64encode(picture.data).decode("ascii")
    return (
        '<figure class="picture">'
        f'<img src="data:{MEDIA_TYPES[picture.format]};base64,{data}" '
        f'alt="{escape(prompt)}, seed {picture.seed}" decoding="sync">'
        f'<figcaption><a href="#" download="{file_name(picture, prompt)}" '
        f'onclick="{_TAKE_DATA}">Download {picture.format.upper()}</a></figcaption></figure>'
    )


def empty_html() -> str:
    """Show the place where the first picture will be."""
    return '<figure class="picture"><div class="nothing"></div></figure>'


def badge_html(picture: Picture) -> str:
    """Tell where the time of a picture went."""
    timings = picture.timings
    parts = (
        ("queue", f"{timings.queue_ms:.1f}"),
        ("engine", f"{timings.engine_ms:.1f}"),
        ("encode", f"{timings.encode_ms:.1f}"),
        ("batch", str(timings.batch_size)),
    )
    rest = "".join(f"<span>{name} <b>{value}</b></span>" for name, value in parts)
    return f'<p class="badge" role="status"><strong>{timings.total_ms:.0f} ms</strong>{rest}</p>'


def warning_html(picture: Picture) -> str:
    """Name the words that the model did not read; empty where it read all."""
    if not picture.dropped:
        return ""
    dropped = escape(_shortened(picture.dropped, 80))
    text = f"The prompt is too long; left out: {dropped}"
    return f'<p class="message warning" role="status">{text}</p>'


def error_html(sentence: str) -> str:
    """Show an error as one sentence."""
    sentence = _shortened(sentence)
    text = sentence[:1].upper() + sentence[1:]
    return f'<p class="message error" role="alert">{escape(text)}.</p>'


def file_name(picture: Picture, prompt: str) -> str:
    """Name the file of a picture by its prompt and seed: red-apple-7.png."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:40].strip("-") or "picture"
    return f"{words}-{picture.seed}.{picture.format}"


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[:length] + "..."
