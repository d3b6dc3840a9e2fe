"""Take the documentation's pictures of the page from a running service.

    python -m ui.screenshots --url http://127.0.0.1:3000 --out docs/images

Needs the extra `dev` and Chromium. The comparison is taken where two models are served.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from sidestep.errors import BackendUnavailable
from sidestep.files import write_bytes

DESKTOP: Any = {"width": 1000, "height": 800}
PHONE: Any = {"width": 360, "height": 740}
PATIENCE_MS = 120_000
READY = "#picture[aria-busy=false] img"
# name -> (window, light or dark, what is in the link)
PICTURES: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "page": (DESKTOP, "light", {"prompt": "wolf, fluent", "seed": "5"}),
    "page-grid-dark": (DESKTOP, "dark", {"prompt": "rocket, noto", "seed": "3", "count": "9"}),
    "page-phone": (PHONE, "light", {"prompt": "sunflower, twemoji", "seed": "1"}),
}


def main() -> None:
    """Write one PNG for each picture."""
    parser = argparse.ArgumentParser(description="Take the documentation's pictures of the page.")
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="address of a service")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder to write to")
    options = parser.parse_args()
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
            for name, (window, scheme, recipe) in PICTURES.items():
                page = browser.new_page(viewport=window, color_scheme=scheme)
                take(page, f"{options.url}/ui/#{urlencode(recipe)}", options.out / f"{name}.png")
            page = browser.new_page(viewport=DESKTOP, color_scheme="light")
            compare(page, options.url, options.out / "page-compare.png")


def take(page: Any, link: str, path: Path) -> None:
    """Open a link, draw until the times are those of a warm service, and write a PNG."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(link)
    page.wait_for_selector(READY)
    for key in ("ArrowUp", "ArrowDown") * 5:
        page.locator("#prompt").press(key)
        page.wait_for_selector(READY)
    page.evaluate("document.activeElement.blur()")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
    print(f"{path}: {len(buffer.getvalue()) / 1024:.0f} KiB")


def compare(page: Any, url: str, path: Path) -> None:
    """Take the comparison of the first two models; nothing where there is one."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{url}/ui/")
    page.wait_for_selector(READY)
    names = page.evaluate(
        "() => [...document.querySelectorAll('#model option')].map((o) => o.value)"
    )
    if len(names) > 1:
        recipe = {"prompt": "dog face, fluent", "seed": "3", "model": names[0], "against": names[1]}
        take(page, f"{url}/ui/#{urlencode(recipe)}", path)


if __name__ == "__main__":
    main()
