"""The page for everybody: phones, the dark, keys alone and screen readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WIDTHS = "() => [document.documentElement.scrollWidth, innerWidth]"
GROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("width", [360, 390, 820])
def test_a_phone_shows_the_whole_picture(visit: Any, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 740})
    visit.open()
    box = visit.images.bounding_box()
    assert box is not None
    assert box["width"] > 250
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 740
    assert visit.page.evaluate(WIDTHS) == [width, width]
    visit.prompt.fill("x" * 1000)
    expect(visit.page.get_by_text("The prompt is too long")).to_be_visible()
    visit.page.locator(".about summary").click()
    visit.page.locator(".history summary").click()
    visit.prompt.press("Enter")
    expect(visit.page.locator(".history li")).not_to_have_count(0)
    assert visit.page.evaluate(WIDTHS) == [width, width], "a long word does not widen the page"


def test_a_small_picture_takes_whole_screen_pixels_for_each_of_its_own(visit: Any) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 740})
    visit.open()
    show = visit.page.locator(".show")
    hard = "(show) => show.classList.contains('hard')"
    assert not show.evaluate(hard), "the embedded model's are large enough to be soft"
    show.evaluate(
        "(show) => { show.style.setProperty('--width', 64); show.classList.add('hard'); }"
    )
    box = visit.images.bounding_box()
    assert box is not None
    assert box["width"] > 250
    assert box["width"] % 64 == 0


def test_a_picture_wider_than_the_window_is_shown(visit: Any) -> None:
    visit.page.set_viewport_size({"width": 320, "height": 740})
    visit.open()
    visit.page.locator(".show").evaluate("(show) => show.style.setProperty('--width', 512)")
    box = visit.images.bounding_box()
    assert box is not None
    assert box["width"] > 250


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(person: Callable[..., Any], service: str, scheme: str) -> None:
    visit = person(service, color_scheme=scheme)
    visit.open()
    red, green, blue = (int(part) for part in visit.page.evaluate(GROUND)[4:-1].split(","))
    assert (red + green + blue < 3 * 64) == (scheme == "dark")
    assert findings(visit) == []
    visit.page.locator(".history summary").click()
    visit.page.locator(".about summary").click()
    visit.prompt.fill("a red apple on a table " * 40)
    expect(visit.page.get_by_text("The prompt is too long")).to_be_visible()
    visit.write(visit.seed, "seven")
    expect(visit.error).to_be_visible()
    visit.settle()
    assert findings(visit) == []
    visit.seed.fill("0")
    visit.prompt.fill("octopus, flat")
    visit.page.get_by_role("radio", name="9", exact=True).check()
    visit.settle()
    expect(visit.images).to_have_count(9)
    assert findings(visit) == []


def findings(visit: Any) -> list[str]:
    """Name what axe finds of serious or critical impact."""
    violations = Axe().run(visit.page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]


def test_all_is_reached_by_keys_alone(visit: Any) -> None:
    visit.open()
    expect(visit.prompt).to_be_focused()
    keyboard = visit.page.keyboard
    reached = []
    for _ in range(40):
        keyboard.press("Tab")
        name = visit.page.evaluate(
            "() => { const e = document.activeElement;"
            " return (e.labels?.[0]?.innerText || e.getAttribute('aria-label')"
            " || e.textContent).trim() }"
        )
        reached.append(name)
        if name == "What it can draw":
            break
    for name in ("noto", "red apple", "Seed", "Next seed", "New seed", "1", "Copy link"):
        assert name in reached
    assert any("Open a picture" in name for name in reached)
    assert any("Keep the seed" in name for name in reached)
    keyboard.press("Enter")
    expect(visit.page.locator(".about")).to_have_attribute("open", "")
    visit.page.get_by_role("radio", name="1", exact=True).focus()
    keyboard.press("ArrowRight")
    visit.settle()
    expect(visit.images).to_have_count(4)
    visit.page.locator("#picture button").nth(2).focus()
    keyboard.press("Enter")
    visit.drawn("red apple", "2")
    expect(visit.page.locator("#picture")).to_be_focused()


def test_a_screen_reader_hears_of_a_picture_once_the_keys_rest(visit: Any) -> None:
    visit.open()
    spoken = visit.page.locator(".spoken")
    expect(spoken).to_contain_text("red apple, seed 0")
    visit.page.evaluate(
        "() => { window.said = []; new MutationObserver(() => said.push("
        "document.querySelector('.spoken').textContent)).observe("
        "document.querySelector('.spoken'), { childList: true }) }"
    )
    visit.write(visit.prompt, "octopus")
    expect(spoken).to_contain_text("octopus, seed 0")
    said = visit.page.evaluate("window.said")
    assert "octopus, seed 0" in said[-1]
    assert len(said) <= 2, "not at every key"
