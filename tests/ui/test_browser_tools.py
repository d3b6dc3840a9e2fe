"""Grid, comparison, history, links and dropped files, in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from sidestep.images import Recipe, encode
from sidestep.model_folder import ModelFolder, write_card

pytestmark = pytest.mark.browser

EMOJI = Path(__file__).parents[2] / "models" / "emoji"

DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(
      new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }),
    );
}"""


def drop(visit: Any, data: bytes, name: str = "picture.png") -> None:
    visit.page.evaluate(DROP, [base64.b64encode(data).decode(), name])


def choose(visit: Any, count: int) -> None:
    visit.page.get_by_role("radio", name=str(count), exact=True).check()


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)), dtype=int)


def test_a_grid_is_one_batch_and_a_click_keeps_its_picture(visit: Any) -> None:
    visit.open()
    visit.write(visit.seed, "20")
    visit.drawn("red apple", "20")
    for count in (4, 9, 16):
        before = sum(url.endswith("/run/draw") for url in visit.asked)
        choose(visit, count)
        visit.settle()
        expect(visit.images).to_have_count(count)
        assert sum(url.endswith("/run/draw") for url in visit.asked) == before + 1
    seeds = [visit.images.nth(i).get_attribute("alt") for i in range(16)]
    assert seeds == [f"red apple, seed {20 + i}" for i in range(16)]
    expect(visit.page.get_by_role("link", name="Download PNG")).to_have_count(0)
    kept = visit.bytes(5)
    visit.page.locator("#picture button").nth(5).click()
    alone = visit.drawn("red apple", "25")
    assert np.abs(pixels(alone) - pixels(kept)).max() <= 1
    expect(visit.seed).to_have_value("25")
    expect(visit.page.get_by_role("radio", name="1", exact=True)).to_be_checked()


def test_a_link_opens_the_same_bytes_in_another_browser(
    visit: Any, person: Callable[..., Any]
) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open()
    visit.write(visit.prompt, "Ünï & 100% #1 <b>, flat")
    visit.write(visit.seed, "18446744073709551615")
    picture = visit.drawn("Ünï & 100% #1 <b>, flat", "18446744073709551615")
    visit.button("Copy link").click()
    expect(visit.note).to_contain_text("The link is copied")
    link = visit.page.evaluate("navigator.clipboard.readText()")
    assert link == visit.page.url
    other = person(visit.service)
    other.page.goto(link)
    assert other.drawn("Ünï & 100% #1 <b>, flat", "18446744073709551615") == picture
    expect(other.prompt).to_have_value("Ünï & 100% #1 <b>, flat")
    expect(other.note).to_be_hidden()


def test_a_link_opens_in_a_page_that_is_there(visit: Any) -> None:
    visit.open()
    visit.page.evaluate("location.hash = '#prompt=octopus&seed=4&count=4'")
    visit.settle()
    expect(visit.images).to_have_count(4)
    expect(visit.images.last).to_have_attribute("alt", "octopus, seed 7")


NONSENSE = (
    ("%%%&&&===%ff", "it has no prompt"),
    ("count=1", "it has no prompt"),
    ("prompt=octopus&seed=seven", "“seven” is no seed"),
    ("prompt=octopus&seed=-1", "“-1” is no seed"),
    ("prompt=octopus&seed=18446744073709551616", "is no seed"),
    ("prompt=octopus&model=%3Cimg+src%3Dx%3E", "there is no model “<img src=x>” here"),
    ("prompt=octopus&count=1e9", "“1e9” is no number of seeds"),
    ("prompt=octopus&against=emoji2", "no model “emoji2” here to compare with"),
    ("prompt=octopus&seed=0&weights=abc", "emoji had other weights then"),
)


def test_a_link_of_nonsense_is_told_and_still_draws(visit: Any) -> None:
    visit.open(f"#{NONSENSE[0][0]}")
    expect(visit.note).to_contain_text(NONSENSE[0][1])
    for link, told in NONSENSE[1:]:
        visit.page.evaluate("(hash) => { location.hash = hash }", link)
        expect(visit.note).to_contain_text(told)
        visit.drawn("octopus" if "octopus" in link else "red apple", "0")
    assert visit.complaints == []


def test_a_link_with_a_novel_is_a_sentence(visit: Any) -> None:
    visit.page.goto(f"{visit.service}/ui/#prompt={'novel+' * 2000}")
    expect(visit.error).to_contain_text("Prompt must be a text of 1 to 2,000 characters")


def test_the_history_keeps_recipes_and_forgets_them(visit: Any) -> None:
    visit.open()
    rows = visit.page.locator(".history li")
    visit.page.locator(".history summary").click()
    expect(rows).to_have_count(1)
    for seed, prompt in (("3", "octopus"), ("4", "pizza")):
        visit.write(visit.seed, seed)
        visit.write(visit.prompt, prompt)
        visit.drawn(prompt, seed)
        visit.prompt.press("Enter")
    expect(rows.locator("bdi")).to_have_text(["pizza", "octopus", "red apple"])
    stored = visit.page.evaluate("localStorage.getItem('sidestep.history')")
    assert len(stored) < 1000, "recipes, not pixels"
    visit.page.reload()
    visit.settle()
    expect(rows).to_have_count(3)
    visit.page.locator(".history summary").click()
    rows.nth(1).get_by_role("button").first.click()
    assert visit.drawn("octopus", "3") == visit.from_the_api("octopus", "3")
    visit.button("Delete pizza, seed 4").click()
    expect(visit.page.get_by_role("button", name="Delete pizza, seed 4")).to_have_count(0)
    visit.button("Delete all").click()
    expect(rows).to_have_count(0)
    assert visit.page.evaluate("localStorage.getItem('sidestep.history')") == "[]"


def test_the_focus_stays_in_the_history(visit: Any) -> None:
    visit.open()
    rows = visit.page.locator(".history li")
    visit.page.locator(".history summary").click()
    expect(rows).to_have_count(1)
    visit.prompt.fill("octopus")
    expect(rows.locator("bdi")).to_have_text(["octopus", "red apple"])
    rows.nth(1).get_by_role("button").first.press("Enter")
    visit.drawn("red apple", "0")
    expect(rows.locator("bdi")).to_have_text(["red apple", "octopus"])
    expect(rows.first.get_by_role("button").first).to_be_focused()


def test_a_history_of_other_weights_is_told(visit: Any) -> None:
    visit.open()
    recipe = {"prompt": "octopus", "seed": "8", "model": "emoji", "weights": "other"}
    visit.page.evaluate(
        "(text) => localStorage.setItem('sidestep.history', text)", json.dumps([recipe])
    )
    visit.page.reload()
    visit.page.locator(".history summary").click()
    visit.page.get_by_role("button", name="octopus seed 8, emoji", exact=True).click()
    visit.drawn("octopus", "8")
    expect(visit.note).to_contain_text("The recipe is of emoji with other weights")


def test_a_model_that_was_opened_anew_is_known_by_its_pictures(visit: Any) -> None:
    def renewed(route: Any) -> None:
        answer = route.fetch()
        told = answer.json()
        for picture in told["data"][0].get("pictures", ()):  # or it was replaced
            picture["weights"] = "f" * 64
        route.fulfill(response=answer, json=told)

    visit.page.route("**/gradio_api/run/draw", renewed)
    visit.open(f"#prompt=octopus&seed=8&weights={'f' * 16}", "octopus", "8")
    expect(visit.note).to_be_hidden()
    expect(visit.page.locator(".facts")).to_contain_text("weights ffffffffffff")
    visit.write(visit.prompt, "pizza")
    expect(visit.page).to_have_url(re.compile("pizza.*weights=ffffffffffffffff"))
    assert visit.complaints == []


def test_enter_keeps_no_picture_that_is_about_to_be_replaced(visit: Any) -> None:
    visit.open()
    expect(visit.page).to_have_url(re.compile("red\\+apple"))
    visit.page.locator(".history summary").click()
    visit.page.route("**/gradio_api/run/draw", lambda route: None)  # no answer
    visit.page.get_by_role("button", name="Delete all").click()
    visit.prompt.fill("octopus")
    visit.prompt.press("Enter")
    expect(visit.page.locator(".history li")).to_have_count(0)


def test_a_link_to_be_copied_by_hand_is_of_what_is_seen(visit: Any) -> None:
    visit.open()
    visit.page.evaluate(
        "() => { Object.defineProperty(navigator, 'clipboard', { value: undefined });"
        " history.replaceState = () => { throw new Error('too often'); } }"
    )
    visit.prompt.fill("octopus")
    visit.drawn("octopus", "0")
    visit.button("Copy link").click()
    link = visit.page.get_by_label("Link to this picture")
    expect(link).to_have_value(re.compile("prompt=octopus"))
    expect(link).to_be_focused()
    visit.prompt.fill("pizza")
    visit.drawn("pizza", "0")
    expect(link).to_be_hidden()


def test_of_two_files_the_later_is_drawn(visit: Any) -> None:
    visit.open()
    held: list[Any] = []
    reads = "**/gradio_api/run/read"
    visit.page.route(reads, lambda route: held.append(route), times=1)
    with visit.page.expect_request(reads):
        drop(visit, visit.from_the_api("octopus", "8"))
    drop(visit, visit.from_the_api("pizza", "9"))
    visit.drawn("pizza", "9")
    with visit.page.expect_response(reads):
        held[0].continue_()
    visit.button("Next seed").click()
    visit.drawn("pizza", "10")


def test_a_damaged_history_is_no_blank_page(visit: Any) -> None:
    visit.open()
    for stored in ("{", "7", "null", '[{"prompt": 7}, null, "x", {}]'):
        visit.page.evaluate("(text) => localStorage.setItem('sidestep.history', text)", stored)
        visit.page.reload()
        visit.drawn("red apple", "0")
    assert visit.complaints == []


def test_styles_and_examples_are_chips(visit: Any) -> None:
    visit.open()
    visit.button("noto").click()
    visit.drawn("red apple, noto")
    expect(visit.button("noto")).to_have_attribute("aria-pressed", "true")
    visit.button("twemoji").click()
    visit.drawn("red apple, twemoji")
    expect(visit.button("noto")).to_have_attribute("aria-pressed", "false")
    visit.button("rocket").click()
    assert visit.drawn("rocket, twemoji") == visit.from_the_api("rocket, twemoji")
    visit.button("twemoji").click()
    visit.drawn("rocket")
    visit.page.locator(".about summary").click()
    expect(visit.page.get_by_text("It cannot count")).to_be_visible()


def test_a_dropped_picture_is_drawn_again(visit: Any) -> None:
    visit.open()
    picture = visit.from_the_api("sunflower, flat", "1234567890123456789")
    drop(visit, picture)
    expect(visit.seed).to_have_value("1234567890123456789")
    assert visit.drawn("sunflower, flat", "1234567890123456789") == picture
    expect(visit.note).to_be_hidden()


def test_a_large_picture_is_read_by_its_beginning(visit: Any, tmp_path: Path) -> None:
    visit.open()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    recipe = Recipe("octopus", 8, "emoji", "other", "onnx-cpu", "0")
    for kind in ("png", "jpeg"):
        file = tmp_path / f"picture.{kind}"
        file.write_bytes(encode(noise, kind, recipe, quality=100))
        assert file.stat().st_size > 640 * 2**10
        visit.page.get_by_label("Open a picture").set_input_files(file)
        visit.drawn("octopus", "8")
        expect(visit.note).to_contain_text("The recipe is of emoji with other weights")
        visit.prompt.fill(f"not from {kind}")
        visit.drawn(f"not from {kind}")
    webp = {"name": "a.webp", "mimeType": "image/webp", "buffer": b"\0" * 2**20}
    visit.page.get_by_label("Open a picture").set_input_files(webp)
    expect(visit.note).to_contain_text("A WebP picture must be smaller than 640 KiB")


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_an_opened_file_is_drawn_again(visit: Any, format: str, tmp_path: Path) -> None:
    visit.open()
    file = tmp_path / f"picture.{format}"
    file.write_bytes(visit.from_the_api("octopus", "8", format=format))
    visit.page.get_by_label("Open a picture").set_input_files(file)
    assert visit.drawn("octopus", "8") == visit.from_the_api("octopus", "8")


def test_a_file_without_a_recipe_is_a_sentence(visit: Any) -> None:
    picture = visit.open()
    for data, told in (
        (b"no picture", "The file is not a PNG, JPEG or WebP picture."),
        (b"", "The file is not a PNG, JPEG or WebP picture."),
        (picture[:40], "The"),
        (encode(np.zeros((4, 4, 3), np.uint8), "png"), "The picture carries no recipe"),
        (b"\0" * 2**23, "The file is not a PNG, JPEG or WebP picture."),
    ):
        drop(visit, data)
        expect(visit.note).to_contain_text(told)
    assert visit.drawn("red apple", "0") == picture
    assert visit.complaints == []


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with its decoder's first layer negated."""
    path = shutil.copytree(EMOJI, tmp_path_factory.mktemp("models") / "inverse")
    file = path / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())  # changed in place: the ONNX graph reads by offsets
    length = int.from_bytes(data[:8], "little")
    tensor = json.loads(data[8 : 8 + length])["decoder.conv_in.weight"]
    first, last = (8 + length + offset for offset in tensor["data_offsets"])
    signs = {"F16": slice(first + 1, last, 2), "F32": slice(first + 3, last, 4)}[tensor["dtype"]]
    data[signs] = bytes(byte ^ 0x80 for byte in data[signs])
    file.write_bytes(data)
    write_card(path, replace(ModelFolder.open(path).card, name="inverse"))
    return path


@pytest.fixture(scope="module")
def two_models(
    browser: Any,
    serving: Callable[..., AbstractContextManager[Any]],
    free_port: Callable[[], int],
    other_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A service of the embedded model and of another; its address."""
    port = free_port()
    with serving(EMOJI, port, tmp_path_factory.mktemp("two"), "--model", str(other_model)):
        yield f"http://127.0.0.1:{port}"


def test_two_models_are_compared_on_one_prompt_and_seed(
    person: Callable[..., Any], two_models: str
) -> None:
    visit = person(two_models)
    visit.open()
    visit.page.get_by_label("Compare with").select_option("inverse")
    visit.write(visit.seed, "5")
    visit.settle()
    alts = [visit.images.nth(i).get_attribute("alt") for i in range(2)]
    assert alts == ["red apple, seed 5, emoji", "red apple, seed 5, inverse"]
    for number, model in enumerate(("emoji", "inverse")):
        wanted = {"prompt": "red apple", "seed": 5, "model": model}
        drawn = httpx.post(f"{two_models}/generate", json=wanted, timeout=60).content
        assert visit.bytes(number) == drawn
    assert np.abs(pixels(visit.bytes(0)) - pixels(visit.bytes(1))).max() > 50
    slider = visit.page.get_by_role("slider", name="How much of the left picture to see")
    stage = visit.page.locator("#picture")
    for key, share in (("End", "100%"), ("Home", "0%")):
        slider.press(key)
        expect(stage).to_have_attribute("style", re.compile(f"--split: {share}"))
    slider.click()  # in its middle
    expect(stage).to_have_attribute("style", re.compile(r"--split: (49|50|51)%"))
    expect(visit.page).to_have_url(re.compile("against=inverse"))
    other = person(two_models)
    other.page.goto(visit.page.url)
    other.settle()
    assert [other.bytes(i) for i in range(2)] == [visit.bytes(i) for i in range(2)]
    other.page.get_by_label("Model", exact=True).select_option("inverse")
    other.settle()
    expect(other.images).to_have_attribute("alt", "red apple, seed 5")
