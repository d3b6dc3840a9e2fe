from __future__ import annotations

import base64
import re
from html import unescape

import pytest

from sidestep.errors import ServiceBusy
from sidestep.requests import GenerateRequest, Picture, Timings
from ui.drawing import draw, seed_number
from ui.view import file_name

DATA = b"\x89PNG exact bytes \x00\xff"


async def generate(request: GenerateRequest) -> list[Picture]:
    assert request.seed is not None
    return [Picture(DATA, request.seed, "png", Timings(1.0, 30.0, 2.0, 4), dropped="tail")]


async def test_the_page_shows_the_exact_bytes() -> None:
    shown = await draw(generate, "red apple", " 18446744073709551615 ")
    assert shown.picture is not None
    found = re.search(r'src="data:image/png;base64,([^"]+)"', shown.picture)
    assert found is not None
    assert base64.b64decode(found[1]) == DATA
    assert 'download="red-apple-18446744073709551615.png"' in shown.picture
    assert "<strong>33 ms</strong>" in shown.report
    assert "queue <b>1.0</b>" in shown.report
    assert "engine <b>30.0</b>" in shown.report
    assert "encode <b>2.0</b>" in shown.report
    assert "batch <b>4</b>" in shown.report
    assert "left out: tail" in shown.report


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "seven", str(2**64), "9" * 5000, "²"])
async def test_a_wrong_seed_is_a_sentence(seed: str) -> None:
    shown = await draw(generate, "red apple", seed)
    assert shown.picture is None
    assert "Seed must be a whole number from 0 to 2^64 - 1" in shown.report
    assert 'role="alert"' in shown.report


@pytest.mark.parametrize("prompt", ["", "  ", "novel " * 1000])
async def test_a_wrong_prompt_is_a_sentence(prompt: str) -> None:
    shown = await draw(generate, prompt, "0")
    assert shown.picture is None
    assert "Prompt must be a text of 1 to 2,000 characters" in shown.report


async def test_a_person_s_text_is_never_markup() -> None:
    shown = await draw(generate, "<script>alert('x')</script>\" onload=", "0")
    assert shown.picture is not None
    assert "<script" not in shown.picture
    alt = re.search(r'alt="([^"]*)"', shown.picture)
    assert alt is not None
    assert unescape(alt[1]) == "<script>alert('x')</script>\" onload=, seed 0"


async def test_errors_are_sentences_and_details_stay_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def busy(request: GenerateRequest) -> list[Picture]:
        raise ServiceBusy("the queue of 4 pictures is full; try again later", retry_after_s=1)

    async def broken(request: GenerateRequest) -> list[Picture]:
        raise RuntimeError("secret")

    assert "The queue of 4 pictures is full" in (await draw(busy, "a", "0")).report
    report = (await draw(broken, "a", "0")).report
    assert "Something went wrong" in report
    assert "secret" not in report
    assert "secret" in caplog.text


def test_names() -> None:
    assert seed_number("007") == 7
    picture = Picture(b"", 3, "webp")
    assert file_name(picture, "Ünï/../code 🍎!") == "n-code-3.webp"
    assert file_name(picture, "🍎") == "picture-3.webp"
