"""From a key press to the painted picture, in a real browser on the real service.

    python -m bench.typing [--edits N] [--every MS]

`sidestep serve` with the embedded model and a headless Chromium run beside each other on this
machine. A person types one key every MS milliseconds; an edit ends with the first frame that shows
its text's picture, or that of a later text. The browser's own clock takes both times, outside the
page's code: the key's time stamp, and the frame after the picture was put into the page.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.machine import cores, load_average
from bench.running import running
from bench.service import HOST
from bench.serving import verdict
from bench.stats import percentile
from sidestep.errors import BackendUnavailable

GOAL_MS = 100
# No two begin alike, so that a picture tells which edit it is of.
TEXTS = (
    *("red apple, flat", "blue heart, noto", "fire engine, fluent", "soccer ball, twemoji"),
    *("cat face, noto", "pizza, flat", "octopus, fluent"),
)
KEYS = tuple((text, at) for text in TEXTS for at in range(len(text)))
PATIENCE_MS = 60_000
WATCH = """() => {
  window.pressed = []; window.painted = [];
  const prompt = document.querySelector("#prompt");
  prompt.addEventListener("input", (event) => pressed.push([prompt.value, event.timeStamp]));
  new MutationObserver(() => {
    const alt = document.querySelector("#picture img").alt;
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => painted.push([alt, performance.now()]);
      port2.postMessage(null);
    });
  }).observe(document.querySelector("#picture .pictures"), { childList: true });
}"""


def main() -> None:
    """Type, and print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--edits", type=int, default=100, help=f"keys to press, {len(KEYS)} at most"
    )
    parser.add_argument("--every", type=float, default=200.0, help="milliseconds between keys")
    options = parser.parse_args()
    if not 1 <= options.edits <= len(KEYS):
        parser.error(
            f"--edits is {options.edits}; it must be 1 to {len(KEYS)}, after which texts would "
            "come again, and a late picture could be of either"
        )
    print(f"{cores()} cores, load average {load_average()} before the start")
    with (
        running("sidestep", "serve") as service,
        open_page(f"http://{HOST}:{service.port}/ui/") as page,
    ):
        type_text(page, options.edits, options.every)
        pressed, painted = page.evaluate("() => [pressed, painted]")
    times = latencies_ms(pressed, painted)
    print(f"{len(times)} edits, one every {options.every:.0f} ms; {len(painted)} pictures painted")
    verdict("key press to painted picture, p50", percentile(times, 50), "ms", at_most=GOAL_MS)
    verdict("key press to painted picture, p95", percentile(times, 95), "ms", at_most=GOAL_MS)
    print(f"load average {load_average()} at the end")


@contextmanager
def open_page(url: str) -> Iterator[Any]:
    """Open the page in a headless Chromium and wait for its first picture."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BackendUnavailable("playwright", "dev") from error
    chromium = shutil.which("chromium")
    if chromium is None:
        raise BackendUnavailable("chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        with playwright.chromium.launch(executable_path=chromium, args=flags) as browser:
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            settled(page)
            yield page


def type_text(page: Any, edits: int, every_ms: float) -> None:
    """Write one text over the other, key by key."""
    page.evaluate(WATCH)
    for text, at in KEYS[:edits]:
        if at == 0:
            page.keyboard.press("ControlOrMeta+a")
        page.keyboard.press(text[at])
        page.wait_for_timeout(every_ms)
    settled(page)


def settled(page: Any) -> None:
    """Wait until no edit waits for its picture."""
    page.wait_for_selector("#picture[aria-busy=false] img")


def latencies_ms(pressed: list[tuple[str, float]], painted: list[tuple[str, float]]) -> list[float]:
    """Find for each edit the first frame after it with its text's picture or a later text's."""
    times = []
    for number, (_, pressed_at) in enumerate(pressed):
        later = {text for text, _ in pressed[number:]}
        frames = [at for alt, at in painted if at > pressed_at and alt.rpartition(", ")[0] in later]
        times.append(min(frames) - pressed_at if frames else float("inf"))
    return times


if __name__ == "__main__":
    main()
