"""Debian's Chromium, the dashboard on a port, and pages of new visitors."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.strategies import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 20_000
PHONE, WIDTHS = 390, (390, 768, 1024, 1600)
PAPER = 717  # pixels of A4 between Chromium's margins
Scheme = Literal["light", "dark"]
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
# A chart that is drawn by a script is there once its series has come.
_DRAWN = "() => document.querySelector('.series:not([data-ready])') === null"

_ON_PAPER = """() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const is_shown = element => element.checkVisibility() && element.getBoundingClientRect().width > 0;
  const named = (problem, elements) => elements.map(element => `${problem}: ${element.outerHTML.slice(0, 90)}`);
  const colour = getComputedStyle(document.body).color.match(/\\d+/g).map(Number);
  return [
    ...named('needs a hand', all('header.bar, nav, form, button, canvas, .skip').filter(is_shown)),
    ...named('is missing', all('main h1, main svg, .scroll table').filter(e => !e.closest('form') && !is_shown(e))),
    ...named('is cut', all('.scroll table, main svg').filter(e => e.getBoundingClientRect().right > innerWidth)),
    ...(colour.reduce((sum, part) => sum + part, 0) < 200 ? [] : ['light ink on white paper']),
  ];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        message = "there is no Chromium: apt-get install chromium (.ci/run does, as root)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@contextlib.contextmanager
def running(settings: Settings, **options: Any) -> Iterator[str]:
    """The address of the dashboard on a free port, served by a thread of this process."""
    config = uvicorn.Config(visit(settings, **options).dashboard.app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)  # uvicorn tells nobody when it listens
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(made: Settings) -> Iterator[str]:
    with running(made) as url:
        yield url


@contextlib.contextmanager
def opened(browser: Browser, url: str, width: int = 1280, scheme: Scheme = "light") -> Iterator[tuple[Page, list[str]]]:
    """A page of a new visitor, and what the browser complains about or fetches from elsewhere."""
    complaints: list[str] = []
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.on("request", lambda request: None if request.url.startswith(url) else complaints.append(request.url))
    try:
        yield page, complaints
    finally:
        context.close()


def go(page: Page, url: str) -> None:
    """Open a page, with the charts that a script draws."""
    page.goto(url)
    page.wait_for_function(_DRAWN)


def violations(page: Page, name: str) -> dict[str, list[str]]:
    """What axe-core finds in a page: every rule in light, and the rules on colours in dark, where nothing else differs.
    The page is in light afterwards."""
    page.emulate_media(color_scheme="light")
    found = {"light": Axe().run(page).response["violations"]}
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(_DRAWN)
    found["dark"] = Axe().run(page, options=COLOURS).response["violations"]
    page.emulate_media(color_scheme="light")
    page.wait_for_function(_DRAWN)
    return {
        f"{name} {scheme} {v['id']}": [node["html"][:120] for node in v["nodes"][:3]]
        for scheme, each in found.items()
        for v in each
    }


def too_narrow(page: Page) -> list[int]:
    """Those of the `WIDTHS` of a window that the page is wider than."""
    narrow = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        narrow += [width] if page.evaluate("document.documentElement.scrollWidth") > width else []
    return narrow


def unprintable(page: Page) -> list[str]:
    """What is wrong with a page on paper, also where the screen is dark: controls that nobody can press there, charts
    and tables that are missing or cut, ink that cannot be read. The page is on a screen afterwards."""
    page.set_viewport_size({"width": PAPER, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    problems = [*page.evaluate(_ON_PAPER)]
    pale = Axe().run(page, options=COLOURS).response["violations"]
    problems += [f"{v['id']}: {node['html'][:120]}" for v in pale for node in v["nodes"][:3]]
    page.emulate_media(media="screen", color_scheme="light")
    return problems


def take_picture(page: Page, name: str, folder: Path) -> None:
    """A picture of the tour into `folder`; with `DASHBOARD_PICTURES=1` it replaces that of the docs."""
    pictures = ROOT / "docs" / "images"
    file = (pictures if os.environ.get("DASHBOARD_PICTURES") else folder) / name
    page.screenshot(path=file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert (pictures / name).is_file()
