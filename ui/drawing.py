"""What happens when a person edits the page: values in, HTML out."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sidestep.errors import InvalidRequest, SidestepError
from sidestep.requests import DRAWN_SEEDS, GenerateRequest, Picture
from ui.view import badge_html, error_html, picture_html, warning_html

Generate = Callable[[GenerateRequest], Awaitable[list[Picture]]]
logger = logging.getLogger("sidestep.ui")


@dataclass(frozen=True)
class Shown:
    """What the page shows after an edit; no picture leaves the last one where it is.

    report: the times of the picture, or one sentence on why there is none
    """

    report: str
    picture: str | None = None


async def draw(generate: Generate, prompt: str, seed: str, *, tab: str | None = None) -> Shown:
    """Draw what the page asks for; every error becomes one sentence beside the last picture.

    tab: names the open page, so that each has its turn where several draw
    """
    try:
        values = {"prompt": prompt, "seed": seed_number(seed), "client_id": tab}
        request = GenerateRequest.parse(values)
        picture = (await generate(request))[0]
    except SidestepError as error:
        return Shown(error_html(str(error)))
    except Exception:
        logger.exception("a picture for the page failed")
        return Shown(error_html("something went wrong; the service's log says what"))
    report = badge_html(picture) + warning_html(picture)
    return Shown(report, picture_html(picture, prompt))


def seed_number(text: str) -> int:
    """Read a seed as it was typed; raises InvalidRequest for other text.

    A text and not a number box: JavaScript's numbers cannot hold a seed above 2^53.
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 40:
        raise InvalidRequest("seed must be a whole number from 0 to 2^64 - 1", field="seed")
    return int(digits)


def new_seed() -> str:
    """Draw a seed below 2^32."""
    return str(secrets.randbelow(DRAWN_SEEDS))
