"""Which of the media types on offer a caller likes best (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serve.errors import NotAcceptable
from sidestep.images import MEDIA_TYPES
from sidestep.requests import GenerateRequest

JSON, MULTIPART = "application/json", "multipart/mixed"


def negotiate(request: GenerateRequest, accept: str) -> tuple[GenerateRequest, str]:
    """Return the request with the format that `accept` asks for, and the answer's media type.

    One picture is sent as its bytes, in `format` where the caller gave one; any count as JSON or
    multipart. Raises NotAcceptable naming what is on offer.
    """
    images = list(MEDIA_TYPES.values())
    if "format" in request.model_fields_set:
        images = [MEDIA_TYPES[request.format]]
    offers = [*(images if request.count == 1 else ()), JSON, MULTIPART]
    chosen = preferred(accept, offers)
    if chosen is None:
        raise NotAcceptable(f"Accept must allow one of {', '.join(offers)}", field="Accept")
    for name, media_type in MEDIA_TYPES.items():
        if media_type == chosen:
            return request.model_copy(update={"format": name}), chosen
    return request, chosen


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """Choose the offer of the highest quality, the first of equals; None if all are refused.

    The most specific range that fits an offer tells its quality. An empty header allows all.
    """
    ranges = dict(_ranges(accept)) or {"*/*": 1.0}

    def quality(offer: str) -> float:
        kind = offer.split("/")[0]
        fitting = (ranges[name] for name in (offer, f"{kind}/*", "*/*") if name in ranges)
        return next(fitting, 0.0)

    best = max(offers, key=quality)
    return best if quality(best) > 0 else None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = min(max(float(parameter[2:]), 0.0), 1.0)
                except ValueError:
                    quality = 0.0
        if name:
            yield name, quality
