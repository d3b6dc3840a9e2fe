"""What people paste, drop and pull out: the page stays up and shows it as text."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

DRAWS = "**/gradio_api/run/draw"

MARKUP = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    '"><svg onload="window.hacked = 1">',
    "${window.hacked = 1}{{constructor.constructor('window.hacked = 1')()}}",
    "javascript:window.hacked=1//' onfocus='window.hacked=1' autofocus='",
)
FOREIGN = ("🍎🚒", "تفاحة حمراء", "\u202egnp.exe", "红苹果", "e\u0301\u0308" * 20)


def forged(**recipe: Any) -> bytes:
    """A picture of another size with a recipe that somebody wrote."""
    info = PngInfo()
    info.add_text("sidestep", json.dumps({"quality": None, "version": "0", **recipe}))
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 5, 3), np.uint8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def safe(visit: Any) -> None:
    """Nothing of a person's text became an element or ran."""
    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.locator(".sidestep script, .sidestep svg[onload]").count() == 0
    assert visit.page.locator(".sidestep img:not([src^='data:image/png'])").count() == 0
    assert visit.complaints == []


def test_markup_is_text_in_the_prompt_the_history_and_the_link(
    visit: Any, person: Callable[..., Any]
) -> None:
    visit.open()
    visit.prompt.press("Enter")
    visit.page.locator(".history summary").click()
    for prompt in MARKUP:
        visit.prompt.fill(prompt)
        visit.drawn(prompt)
        visit.prompt.press("Enter")
    expect(visit.page.locator(".history bdi").first).to_have_text(MARKUP[-1])
    expect(visit.page.locator(".history bdi")).to_have_count(1 + len(MARKUP))
    safe(visit)
    other = person(visit.service)
    other.page.goto(visit.page.url)
    other.drawn(MARKUP[-1])
    for prompt in MARKUP:
        link = urlencode({"prompt": prompt, "seed": prompt, "model": prompt, "weights": prompt})
        other.page.evaluate("(hash) => { location.hash = hash }", link)
        other.drawn(prompt, "0")
        expect(other.note).to_contain_text(prompt[:20])
    safe(other)


def test_markup_is_text_in_a_forged_recipe(visit: Any) -> None:
    visit.open()
    for text in MARKUP:
        names = {"model": text, "weights": text, "engine": text}
        data = base64.b64encode(forged(prompt=text, seed=3, **names)).decode()
        chosen = {"name": f"{text[:5]}.png", "mimeType": "image/png", "buffer": None}
        chosen["buffer"] = base64.b64decode(data)
        visit.page.get_by_label("Open a picture").set_input_files(chosen)
        expect(visit.note).to_contain_text(f"The recipe is of {text}")
        visit.drawn(text, "3")
    safe(visit)


def test_a_forged_recipe_out_of_bounds_is_a_sentence(visit: Any) -> None:
    picture = visit.open()
    names = {"model": "emoji", "weights": "", "engine": ""}
    for recipe, told in (
        ({"prompt": "novel " * 1000, "seed": 1}, "Prompt must be a text of 1 to 2,000"),
        ({"prompt": "a", "seed": 2**70}, "Seed must be a whole number"),
        ({"prompt": {"a": 1}, "seed": 1}, "Prompt must be a text"),
    ):
        file = {"name": "a.png", "mimeType": "image/png", "buffer": forged(**recipe, **names)}
        visit.page.get_by_label("Open a picture").set_input_files(file)
        expect(visit.note).to_contain_text(told)
    assert visit.drawn("red apple", "0") == picture
    safe(visit)


def test_texts_of_all_languages_are_drawn(visit: Any) -> None:
    visit.open()
    for prompt in FOREIGN:
        visit.prompt.fill(prompt)
        assert visit.drawn(prompt) == visit.from_the_api(prompt)
    safe(visit)


def test_a_novel_is_cut_with_a_sentence_or_refused(visit: Any) -> None:
    visit.open()
    visit.prompt.fill("a red apple on a table " * 40)
    cut = visit.page.get_by_text("The prompt is too long; left out: ")
    expect(cut).to_be_visible()
    picture = visit.bytes()
    visit.prompt.fill("once upon a time\n" * 6_000)
    expect(visit.error).to_contain_text("Prompt must be a text of 1 to 2,000 characters")
    assert visit.bytes() == picture
    visit.prompt.fill("octopus")
    visit.drawn("octopus")
    expect(cut).to_be_hidden()
    expect(visit.error).to_have_count(0)


def test_the_page_goes_on_when_the_service_comes_back(
    person: Callable[..., Any],
    serving: Callable[[Path, int, Path], AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    emoji = Path(__file__).parents[2] / "models" / "emoji"
    port = free_port()
    visit = person(f"http://127.0.0.1:{port}")
    with serving(emoji, port, tmp_path):
        first = visit.open()
    visit.write(visit.prompt, "octopus")
    expect(visit.error).to_have_text(
        "The service cannot be reached. Trying again until it answers."
    )
    assert visit.bytes() == first, "the last picture stays"
    with serving(emoji, port, tmp_path):
        expect(visit.images).to_have_attribute("alt", "octopus, seed 0")
        expect(visit.error).to_have_count(0)
        assert visit.drawn("octopus", "0") == visit.from_the_api("octopus", "0")
        expect(visit.prompt).to_have_value("octopus")


def test_a_busy_service_is_asked_again(visit: Any) -> None:
    visit.open()
    busy = refused("busy", "The queue is full. The predicted wait is 0.1 s.", 0.1)
    visit.page.route(DRAWS, lambda route: route.fulfill(json=busy))
    visit.prompt.fill("octopus")
    expect(visit.error).to_have_text("The queue is full. The predicted wait is 0.1 s.")
    visit.page.unroute(DRAWS)
    expect(visit.error).to_have_count(0)
    visit.drawn("octopus", "0")


def test_a_service_is_not_asked_before_it_said(visit: Any) -> None:
    visit.page.clock.install()
    visit.open()
    asked: list[Any] = []
    busy = refused("busy", "This address may draw 6 pictures a minute.", 60)
    visit.page.route(DRAWS, lambda route: asked.append(route.fulfill(json=busy)))
    visit.prompt.fill("octopus")
    expect(visit.error).to_be_visible()
    visit.settle()
    before = len(asked)
    visit.page.clock.run_for(50_000)
    assert len(asked) == before
    visit.page.unroute(DRAWS)
    visit.page.clock.run_for(20_000)
    visit.drawn("octopus", "0")


def test_a_call_that_an_older_one_overtook_is_asked_again(visit: Any) -> None:
    visit.open()
    told = refused("superseded", "A newer request of the same client replaced this one.")
    visit.page.route(DRAWS, lambda route: route.fulfill(json=told), times=1)
    visit.prompt.fill("octopus")
    assert visit.drawn("octopus", "0") == visit.from_the_api("octopus", "0")
    expect(visit.error).to_have_count(0)


def test_a_proxy_s_refusal_is_told(visit: Any) -> None:
    visit.open()
    page = "<html>Forbidden</html>"
    visit.page.route(
        DRAWS, lambda route: route.fulfill(status=403, content_type="text/html", body=page)
    )
    visit.prompt.fill("octopus")
    expect(visit.error).to_have_text("The service answered 403.")


def test_a_file_is_not_promised_to_be_tried_again(visit: Any) -> None:
    picture = visit.open()
    visit.page.route("**/gradio_api/run/read", lambda route: route.abort())
    file = {"name": "a.png", "mimeType": "image/png", "buffer": picture}
    visit.page.get_by_label("Open a picture").set_input_files(file)
    expect(visit.note).to_have_text("The service cannot be reached.")


def refused(code: str, message: str, after_s: float | None = None) -> dict[str, Any]:
    """Write what the page's endpoint answers instead of pictures."""
    after = {} if after_s is None else {"retry_after_s": after_s}
    return {"data": [{"error": {"code": code, "message": message, **after}}]}
