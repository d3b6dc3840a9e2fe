"""The page in a real browser: `sidestep serve`, a headless Chromium and a person's keys."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

pytestmark = pytest.mark.browser

# What Chromium would otherwise send on its own account, and what a container does not have.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 180_000  # on a busy machine; nothing waits longer than it must
DRAWS = "**/gradio_api/run/predict**"
LARGEST_SEED = str(2**64 - 1)


@dataclass
class Visit:
    """An open page, what it asked for, what it complained of, and what it waits for."""

    page: Page
    service: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    awaited: set[Request] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("request", self._on_request)
        self.page.on("requestfinished", self._on_answer)
        self.page.on("requestfailed", self._on_answer)
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_request(self, request: Request) -> None:
        self.asked.append(request.url)
        if request.method == "POST":
            self.awaited.add(request)

    def _on_answer(self, request: Request) -> None:
        self.awaited.discard(request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location})")

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def seed(self) -> Locator:
        return self.page.get_by_label("Seed", exact=True)

    @property
    def image(self) -> Locator:
        return self.page.locator("#picture img")

    @property
    def error(self) -> Locator:
        """Every message of an error, Gradio's own floating ones included."""
        return self.page.get_by_role("alert")

    def open(self) -> None:
        """Open the page and wait for its first picture."""
        self.page.goto(self.service)
        self.drawn("red apple", "0")

    def write(self, box: Locator, text: str) -> None:
        """Replace a box's text as a person does, key by key."""
        box.press("ControlOrMeta+a")
        box.press("Delete")
        box.press_sequentially(text)

    def drawn(self, prompt: str, seed: str | None = None) -> bytes:
        """Wait for the picture of a prompt (and a seed) to stay; returns its bytes."""
        number = r"\d+" if seed is None else seed
        wanted = re.compile(rf"^{re.escape(prompt)}, seed {number}$")
        expect(self.image).to_have_attribute("alt", wanted)
        self.settle()
        expect(self.image).to_have_attribute("alt", wanted)
        return self.bytes()

    def settle(self) -> None:
        """Wait until every edit is answered."""
        while self.awaited:
            self.page.wait_for_event("requestfinished")

    def bytes(self) -> bytes:
        """Decode the picture that is shown now."""
        source = self.image.get_attribute("src")
        assert source is not None
        media_type, data = source.split(",", 1)
        assert media_type == "data:image/png;base64"
        return base64.b64decode(data, validate=True)

    def from_the_api(self, prompt: str) -> bytes:
        """Draw a prompt with the seed that is shown, through POST /generate."""
        wanted = {"prompt": prompt, "seed": int(self.seed.input_value())}
        answer = httpx.post(f"{self.service}/generate", json=wanted, timeout=60)
        assert answer.status_code == 200
        return answer.content


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium with a profile of its own."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        launched = playwright.chromium.launch(
            executable_path=chromium, args=FLAGS, headless=True, timeout=PATIENCE_MS
        )
        with launched:
            yield launched


@pytest.fixture(scope="module")
def service(
    browser: Browser,  # first, so that without one no service is started
    serving: Callable[[Path, int, Path], AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    built_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A service of the tiny model; its address."""
    port = free_port()
    with serving(built_model, port, tmp_path_factory.mktemp("service")):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def visit(browser: Browser, service: str) -> Iterator[Visit]:
    """A new person's page, not yet opened."""
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE_MS)
        yield Visit(context.new_page(), service)


def test_the_picture_follows_the_typing(visit: Visit) -> None:
    visit.page.goto(f"{visit.service}/")
    expect(visit.page).to_have_url(f"{visit.service}/ui/")
    first = visit.drawn("red apple", "0")
    assert first == visit.from_the_api("red apple")
    visit.write(visit.prompt, "blue heart, noto")
    second = visit.drawn("blue heart, noto", "0")
    assert second == visit.from_the_api("blue heart, noto")
    assert second != first
    visit.page.get_by_role("button", name="fire engine").click()
    assert visit.drawn("fire engine", "0") == visit.from_the_api("fire engine")
    expect(visit.prompt).to_have_value("fire engine")


def test_the_last_prompt_typed_wins_over_a_slow_answer(visit: Visit) -> None:
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
    held[0].continue_()
    assert visit.drawn("cat face", "0") == visit.from_the_api("cat face")


def test_a_new_seed_draws_another_picture(visit: Visit) -> None:
    visit.open()
    first = visit.bytes()
    visit.page.get_by_role("button", name="New seed").click()
    expect(visit.seed).not_to_have_value("0")
    kept = visit.seed.input_value()
    second = visit.drawn("red apple", kept)
    assert second == visit.from_the_api("red apple")
    assert second != first
    visit.write(visit.prompt, "soccer ball")
    visit.drawn("soccer ball", kept)
    expect(visit.seed).to_have_value(kept)


def test_an_unkept_seed_changes_with_every_prompt(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_label("Keep the seed while typing").uncheck()
    visit.write(visit.prompt, "cat face")
    picture = visit.drawn("cat face")
    expect(visit.seed).not_to_have_value("0")
    expect(visit.image).to_have_attribute("alt", f"cat face, seed {visit.seed.input_value()}")
    assert picture == visit.from_the_api("cat face")


def test_a_seed_is_exact_and_the_picture_is_saved_as_it_is(visit: Visit) -> None:
    visit.open()
    visit.write(visit.seed, LARGEST_SEED)
    picture = visit.drawn("red apple", LARGEST_SEED)
    assert picture == visit.from_the_api("red apple")
    with visit.page.expect_download() as downloading:
        visit.page.get_by_role("link", name="Download PNG").click()
    assert downloading.value.suggested_filename == f"red-apple-{LARGEST_SEED}.png"
    assert downloading.value.path().read_bytes() == picture


def test_an_error_is_one_sentence_and_the_page_goes_on(visit: Visit) -> None:
    visit.open()
    first = visit.bytes()
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


def test_a_phone_shows_the_whole_picture(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open()
    box = visit.image.bounding_box()
    assert box is not None
    assert box["width"] > 250
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 844
    widths = "() => [document.documentElement.scrollWidth, innerWidth]"
    assert visit.page.evaluate(widths) == [390, 390]
    visit.prompt.fill("x" * 1000)
    expect(visit.page.get_by_text("The prompt is too long")).to_be_visible()
    assert visit.page.evaluate(widths) == [390, 390], "a long word does not widen the page"


def test_no_request_leaves_the_host(visit: Visit) -> None:
    visit.open()
    visit.write(visit.prompt, "cat face")
    visit.drawn("cat face")
    visit.page.get_by_role("button", name="New seed").click()
    expect(visit.seed).not_to_have_value("0")
    visit.drawn("cat face", visit.seed.input_value())
    visit.write(visit.seed, "seven")
    expect(visit.error).to_be_visible()
    sent = [url for url in visit.asked if not url.startswith(("data:", "blob:"))]
    assert any(url.endswith("/gradio_api/run/predict") for url in sent)
    assert [url for url in sent if not url.startswith(f"{visit.service}/")] == []
    assert visit.complaints == []
