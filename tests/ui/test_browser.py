"""The page in a real browser: `sidestep serve`, a headless Chromium and a person's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Route, expect

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.browser

DRAWS = "**/gradio_api/run/draw"
LARGEST_SEED = str(2**64 - 1)


def test_the_picture_follows_the_typing(visit: Any) -> None:
    visit.page.goto(f"{visit.service}/")
    expect(visit.page).to_have_url(f"{visit.service}/ui/")
    first = visit.drawn("red apple", "0")
    expect(visit.prompt).to_be_focused()
    assert first == visit.from_the_api("red apple")
    visit.write(visit.prompt, "blue heart, noto")
    second = visit.drawn("blue heart, noto", "0")
    assert second == visit.from_the_api("blue heart, noto")
    assert second != first
    visit.write(visit.prompt, "octopus")
    visit.button("fire engine").click()
    assert visit.drawn("fire engine", "0") == visit.from_the_api("fire engine")
    expect(visit.prompt).to_have_value("fire engine")


def test_ten_characters_typed_fast_end_on_the_last_text(visit: Any) -> None:
    visit.open()
    visit.prompt.press("ControlOrMeta+a")
    visit.page.keyboard.type("snowman!!!")  # no pause between the keys
    picture = visit.drawn("snowman!!!", "0")
    assert picture == visit.from_the_api("snowman!!!")
    asked = sum(url.endswith("/run/draw") for url in visit.asked)
    assert 2 <= asked <= 1 + 10, "one for the page, then at most one for each key"


def test_the_last_prompt_typed_wins_over_a_slow_answer(visit: Any) -> None:
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    visit.open()
    visit.page.route(DRAWS, hold_the_first)
    with visit.page.expect_request(DRAWS):
        visit.prompt.press_sequentially(", flat")
    visit.write(visit.prompt, "cat face")
    assert visit.drawn("cat face", "0") == visit.from_the_api("cat face")
    with visit.page.expect_response(DRAWS):
        held[0].continue_()
    assert visit.drawn("cat face", "0") == visit.from_the_api("cat face"), "the late one is dropped"


def test_a_new_seed_draws_another_picture(visit: Any) -> None:
    first = visit.open()
    visit.button("New seed").click()
    expect(visit.seed).not_to_have_value("0")
    kept = visit.seed.input_value()
    second = visit.drawn("red apple", kept)
    assert second == visit.from_the_api("red apple")
    assert second != first
    visit.write(visit.prompt, "soccer ball")
    visit.drawn("soccer ball", kept)
    expect(visit.seed).to_have_value(kept)


def test_an_unkept_seed_changes_with_every_prompt(visit: Any) -> None:
    visit.open()
    visit.page.get_by_label("Keep the seed while typing").uncheck()
    visit.write(visit.prompt, "cat face")
    picture = visit.drawn("cat face")
    expect(visit.seed).not_to_have_value("0")
    expect(visit.images).to_have_attribute("alt", f"cat face, seed {visit.seed.input_value()}")
    assert picture == visit.from_the_api("cat face")


def test_seeds_are_stepped_through_by_keys_and_buttons(visit: Any) -> None:
    visit.open()
    visit.prompt.press("ArrowUp")
    visit.prompt.press("ArrowUp")
    assert visit.drawn("red apple", "2") == visit.from_the_api("red apple", "2")
    visit.seed.press("ArrowDown")
    visit.drawn("red apple", "1")
    visit.button("Previous seed").click()
    visit.drawn("red apple", "0")
    visit.button("Previous seed").click()
    visit.drawn("red apple", "0")
    visit.write(visit.seed, LARGEST_SEED)
    visit.button("Next seed").click()
    visit.drawn("red apple", LARGEST_SEED)
    visit.prompt.press("Shift+Enter")
    expect(visit.seed).not_to_have_value(LARGEST_SEED)
    visit.drawn("red apple", visit.seed.input_value())


def test_a_seed_is_exact_and_the_picture_is_saved_as_it_is(visit: Any) -> None:
    visit.open()
    visit.write(visit.seed, LARGEST_SEED)
    picture = visit.drawn("red apple", LARGEST_SEED)
    assert picture == visit.from_the_api("red apple")
    with visit.page.expect_download() as downloading:
        visit.page.get_by_role("link", name="Download PNG").click()
    assert downloading.value.suggested_filename == f"red-apple-{LARGEST_SEED}.png"
    assert downloading.value.path().read_bytes() == picture


def test_the_badge_adds_up(visit: Any) -> None:
    visit.open()
    shown = visit.page.locator(".badge span").all_inner_texts()
    numbers = {name: float(value) for name, _, value in (text.rpartition(" ") for text in shown)}
    parts = ("queue", "engine", "encode", "network", "paint")
    assert set(numbers) == {*parts, "batch of", "pictures/s"}
    assert numbers["engine"] > 0
    total = visit.page.locator(".badge strong").inner_text().removesuffix(" ms")
    assert sum(numbers[part] for part in parts) == pytest.approx(float(total), abs=1)
    spoken = visit.page.locator(".spoken")
    expect(spoken).to_have_attribute("role", "status")
    expect(spoken).to_contain_text("milliseconds: red apple, seed 0.")


def test_an_error_is_one_sentence_and_the_page_goes_on(visit: Any) -> None:
    first = visit.open()
    visit.write(visit.prompt, "")
    expect(visit.error).to_have_text(
        "Prompt must be a text of 1 to 2,000 characters that is not blank."
    )
    assert visit.bytes() == first, "the last picture stays"
    visit.write(visit.prompt, "cat face")
    visit.drawn("cat face", "0")
    expect(visit.error).to_have_count(0)
    visit.write(visit.seed, "seven")
    expect(visit.error).to_have_text("Seed must be a whole number from 0 to 2^64 - 1.")
    visit.write(visit.seed, "7")
    assert visit.drawn("cat face", "7") == visit.from_the_api("cat face")
    expect(visit.error).to_have_count(0)
    assert visit.complaints == []


def test_two_people_do_not_disturb_each_other(person: Callable[..., Any], service: str) -> None:
    one, other = person(service), person(service)
    one.open()
    other.open()
    for letter in "rocket":
        one.page.keyboard.type(letter)
        other.page.keyboard.type(letter.upper())
    assert one.drawn("rocket") == one.from_the_api("rocket")
    assert other.drawn("ROCKET") == other.from_the_api("ROCKET")
    one.button("New seed").click()
    expect(one.seed).not_to_have_value("0")
    one.settle()
    expect(other.seed).to_have_value("0")
    other.drawn("ROCKET", "0")
    assert one.complaints + other.complaints == []


def test_no_request_leaves_the_host(visit: Any) -> None:
    visit.open()
    visit.write(visit.prompt, "cat face")
    visit.drawn("cat face")
    visit.button("New seed").click()
    visit.drawn("cat face")
    visit.write(visit.seed, "seven")
    expect(visit.error).to_be_visible()
    sent = [url for url in visit.asked if not url.startswith(("data:", "blob:"))]
    assert any(url.endswith("/gradio_api/run/draw") for url in sent)
    assert [url for url in sent if not url.startswith(f"{visit.service}/")] == []
    assert visit.complaints == []
