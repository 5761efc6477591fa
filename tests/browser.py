"""The HTML page in a real headless Chromium: what it logged, what it asked the network for, what axe finds."""

from __future__ import annotations

import importlib.resources
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTLED_MS = 10_000


@dataclass
class Seen:
    """A loaded page, the errors and warnings of its console, and every address it asked for beside its own."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine; the test is skipped where there is none, or no playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, *, width: int = 1400, scheme: str = "light",
           address: str = "") -> Iterator[Seen]:
    """The page of a file, loaded from disk with no network; `address` is what follows its name, say "#run-3"."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    seen = Seen(page)
    page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}")
            if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.console.append(f"exception: {error}"))
    page.on("request", lambda request: seen.requests.append(request.url)
            if not request.url.startswith((file.as_uri(), "data:")) else None)
    page.goto(file.as_uri() + address)
    page.wait_for_selector("#history .main-svg, #history:empty", state="attached", timeout=SETTLED_MS)
    yield seen
    context.close()


def axe(page: Page) -> list[dict[str, Any]]:
    """Return what axe-core finds of impact "serious" or "critical"."""
    script = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    page.evaluate(script)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [{"rule": one["id"], "where": [node["target"] for node in one["nodes"]][:5], "help": one["help"]}
            for one in found["violations"] if one["impact"] in ("serious", "critical")]
