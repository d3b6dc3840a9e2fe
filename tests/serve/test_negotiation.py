from __future__ import annotations

import pytest

from serve.errors import NotAcceptable
from serve.negotiation import negotiate, preferred
from sidestep.requests import GenerateRequest

OFFERS = ["image/png", "image/jpeg", "image/webp", "application/json"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/webp", "image/webp"),
        ("IMAGE/WebP", "image/webp"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/png"),
        ("image/png;q=0.5, image/webp;q=0.9", "image/webp"),
        ("image/*;q=0.5, application/json", "application/json"),
        ("*/*, image/png;q=0", "image/jpeg"),
        ("image/gif", None),
        ("image/png;q=0", None),
        ("image/png;q=soon", None),
        ("nonsense,;q=1,,", None),
    ],
)
def test_the_caller_s_preference_decides(accept: str, expected: str | None) -> None:
    assert preferred(accept, OFFERS) == expected


def test_a_format_in_the_request_narrows_the_offer() -> None:
    request = GenerateRequest(prompt="a", format="jpeg")
    assert negotiate(request, "*/*") == (request, "image/jpeg")
    assert negotiate(request, "application/json") == (request, "application/json")
    with pytest.raises(NotAcceptable, match="image/jpeg, application/json, multipart/mixed"):
        negotiate(request, "image/png")
    wanted, _ = negotiate(GenerateRequest(prompt="a"), "image/webp")
    assert wanted.format == "webp"
    with pytest.raises(NotAcceptable, match="one of application/json, multipart/mixed"):
        negotiate(GenerateRequest(prompt="a", count=2), "image/png")
