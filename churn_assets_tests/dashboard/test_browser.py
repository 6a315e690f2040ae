"""The pages in Debian's Chromium: accessibility, widths, light and dark, and the story by keyboard alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Literal

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.dashboard.test_pages import PATHS
from churn_assets_tests.strategies import ROOT
from churn_assets_tests.test_home_0_1 import CHAMPION, FIRST, WAITING

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 20_000
PHONE, WIDE = 390, 1600


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
def running(settings: Settings) -> Iterator[str]:
    """The address of the dashboard on a free port, served by a thread of this process."""
    config = uvicorn.Config(visit(settings).dashboard.app, host="127.0.0.1", port=0, log_level="warning")
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
def opened(
    browser: Browser, url: str, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[Page, list[str]]]:
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_violates_a_rule_of_accessibility_or_fetches_from_elsewhere(browser, address, scheme):
    found = {}
    with opened(browser, address, scheme=scheme) as (page, complaints):
        for path, _ in PATHS.values():
            page.goto(f"{address}{path}")
            page.wait_for_load_state("networkidle")
            violations = Axe().run(page).response["violations"]
            found |= {f"{path} {v['id']}": [node["html"][:120] for node in v["nodes"][:3]] for v in violations}
    assert found == {}
    assert complaints == []


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_no_page_is_wider_than_the_window(browser, address, width):
    with opened(browser, address, width) as (page, _):
        for path, _ in PATHS.values():
            page.goto(f"{address}{path}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, path


def test_the_curve_is_drawn_and_times_are_in_the_readers_zone(browser, address):
    context = browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB")
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".series canvas", timeout=WAIT_MS)
    time_element = page.locator("time").first
    assert "UTC" not in time_element.inner_text()
    assert time_element.get_attribute("title").endswith("UTC")
    context.close()


def press_until(page: Page, text: str, most: int = 60) -> None:
    """Press Tab until the focused element says this."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.innerText || document.activeElement.name || ''")
        if text in focused:
            return
    raise AssertionError(f"the keyboard does not reach {text!r}")


def confirmed(page: Page, why: str) -> None:
    """Fill in the confirmation with the keyboard."""
    press_until(page, "by")
    page.keyboard.type("Ana")
    page.keyboard.press("Tab")
    page.keyboard.type(why)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=status]")


def test_the_story_by_keyboard_alone(browser, settings):
    with running(settings) as url, opened(browser, url) as (page, complaints):
        page.goto(url)
        press_until(page, WAITING, 80)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/models/{WAITING}")
        assert "passes all 13 checks" in page.inner_text("main")
        press_until(page, "Approve")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/models/{WAITING}/approve")
        confirmed(page, "read the verdict")
        assert Ledger(settings.ledger_path).challenger(WAITING).status == "approved"
        page.goto(f"{url}/models/{FIRST}")
        press_until(page, "Roll back")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/models/{FIRST}/roll-back")
        assert CHAMPION in page.inner_text("main")
        confirmed(page, "complaints since noon")
        assert f"{FIRST} is champion" in page.inner_text("main")
        assert read_champion(settings.home).reason == "rollback: complaints since noon"
        assert complaints == []


def test_the_slider_recomputes_the_profit_without_a_new_page(browser, address):
    with opened(browser, address) as (page, complaints):
        page.goto(f"{address}/calls")
        before = page.inner_text(".tile b")
        page.locator("input[type=range]").focus()
        page.keyboard.press("Home")
        page.wait_for_function("before => document.querySelector('.tile b').innerText !== before", arg=before)
        assert page.inner_text(".tile b") == "0"
        assert page.evaluate("document.activeElement.type") == "range"
        assert complaints == []


def test_the_overview_follows_without_taking_the_focus(browser, address):
    with opened(browser, address) as (page, complaints):
        page.clock.install()
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.locator("#live a").first.focus()
        page.evaluate("document.querySelector('#live h1').innerText = 'old'")
        focused = page.evaluate("document.activeElement.outerHTML")
        page.clock.fast_forward(16_000)
        page.wait_for_function("() => document.querySelector('#live h1').innerText === 'Overview'")
        assert page.evaluate("document.activeElement.outerHTML") == focused
        assert "UTC" not in page.locator("#live time").first.inner_text()
        assert complaints == []


def test_pages_of_an_empty_home_and_beside_a_damaged_report_violate_no_rule(browser, settings, tmp_path):
    empty = Settings(root=tmp_path, home=tmp_path / "none", contract_path=tmp_path / "none.toml")
    (settings.assets_dir / "performance_report.json").write_text('{"half": ')
    found = {}
    for home, paths in ((empty, ("/", "/calls", "/monitoring", "/models", "/try")), (settings, ("/", "/performance"))):
        with running(home) as url, opened(browser, url, PHONE) as (page, complaints):
            for path in paths:
                page.goto(f"{url}{path}")
                violations = Axe().run(page).response["violations"]
                found |= {f"{path} {v['id']}": [node["html"][:120] for node in v["nodes"][:3]] for v in violations}
            assert complaints == []
    assert found == {}


PICTURES: dict[str, tuple[str, int, int, Literal["light", "dark"]]] = {
    "dashboard.png": ("/", 1280, 900, "light"),
    "dashboard_model.png": (f"/models/{WAITING}", 1280, 900, "dark"),
    "dashboard_phone.png": ("/calls?planned=1&capacity=100", PHONE, 844, "light"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_tour(browser, address, tmp_path, name):
    """`DASHBOARD_PICTURES=1 pytest churn_assets_tests/dashboard/test_browser.py -k tour` replaces those of the docs."""
    path, width, height, scheme = PICTURES[name]
    file = (ROOT / "docs" / "images" if os.environ.get("DASHBOARD_PICTURES") else tmp_path) / name
    with opened(browser, address, width, scheme) as (page, complaints):
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{address}{path}")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=file)
        assert complaints == []
    assert file.read_bytes().startswith(b"\x89PNG")
    assert (ROOT / "docs" / "images" / name).is_file()
