"""`sidestep serve` with the embedded model, a headless Chromium, and people who visit the page."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

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
PATIENCE_MS = 60_000  # on a busy machine; nothing waits longer than it must
EMOJI = Path(__file__).parents[2] / "models" / "emoji"


@dataclass
class Visit:
    """An open page, what it asked for, and what it complained of."""

    page: Any
    service: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._on_dialog)

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location})")

    def _on_dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    @property
    def prompt(self) -> Any:
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def seed(self) -> Any:
        return self.page.get_by_label("Seed", exact=True)

    @property
    def images(self) -> Any:
        return self.page.locator("#picture img")

    @property
    def error(self) -> Any:
        """Every message of an error, Gradio's own floating ones included."""
        return self.page.get_by_role("alert")

    @property
    def note(self) -> Any:
        return self.page.locator(".sidestep .note")

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def open(self, link: str = "", prompt: str = "red apple", seed: str = "0") -> bytes:
        """Open the page and wait for its first picture."""
        self.page.goto(f"{self.service}/ui/{link}")
        return self.drawn(prompt, seed)

    def write(self, box: Any, text: str) -> None:
        """Replace a box's text as a person does, key by key."""
        box.press("ControlOrMeta+a")
        box.press("Delete")
        box.press_sequentially(text)

    def settle(self) -> None:
        """Wait until every edit is answered."""
        from playwright.sync_api import expect

        expect(self.page.locator("#picture")).to_have_attribute("aria-busy", "false")

    def drawn(self, prompt: str, seed: str | None = None) -> bytes:
        """Wait for the picture of the last edit, which must be of this; returns its bytes."""
        from playwright.sync_api import expect

        self.settle()
        number = r"\d+" if seed is None else seed
        wanted = re.compile(rf"^{re.escape(prompt)}, seed {number}$")
        expect(self.images).to_have_attribute("alt", wanted)
        return self.bytes()

    def bytes(self, number: int = 0) -> bytes:
        """Decode one of the pictures that are shown now."""
        source = self.images.nth(number).get_attribute("src")
        assert source is not None
        media_type, data = source.split(",", 1)
        assert media_type == "data:image/png;base64"
        return base64.b64decode(data, validate=True)

    def from_the_api(self, prompt: str, seed: str | None = None, **values: str) -> bytes:
        """Draw a prompt with a seed, the one that is shown if absent, through POST /generate."""
        number = int(self.seed.input_value() if seed is None else seed)
        wanted = {"prompt": prompt, "seed": number, **values}
        answer = httpx.post(f"{self.service}/generate", json=wanted, timeout=60)
        assert answer.status_code == 200
        return answer.content


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium with a profile of its own."""
    from playwright.sync_api import expect, sync_playwright

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
    browser: Any,  # first, so that without one no service is started
    serving: Callable[[Path, int, Path], AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A service of the embedded model; its address."""
    port = free_port()
    with serving(EMOJI, port, tmp_path_factory.mktemp("service")):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def person(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Make a new person's page at a service, not yet opened; options are the browser's."""
    with ExitStack() as people:

        def make(service: str, **options: Any) -> Visit:
            context = people.enter_context(browser.new_context(**options))
            context.set_default_timeout(PATIENCE_MS)
            return Visit(context.new_page(), service)

        yield make


@pytest.fixture
def visit(person: Callable[..., Visit], service: str) -> Visit:
    """A person's page at the service, not yet opened."""
    return person(service)
