"""The pages in Debian's Chromium: accessibility, widths, light and dark, live updates; the pictures of the tour."""

from __future__ import annotations

import pytest

from churn_assets.settings import Settings
from churn_assets_tests.dashboard.in_browser.chromium import (
    PHONE,
    TABLET,
    WAIT_MS,
    WIDE,
    Scheme,
    address,
    browser,
    go,
    opened,
    running,
    take_picture,
    too_wide,
    violations,
)
from churn_assets_tests.dashboard.test_pages import PATHS
from churn_assets_tests.test_home_0_1 import CHAMPION, WAITING

__all__ = ["address", "browser"]  # fixtures


@pytest.mark.parametrize("path", PATHS)
def test_a_page_violates_no_rule_of_accessibility_fits_its_window_and_fetches_from_nowhere_else(browser, address, path):
    with opened(browser, address) as (page, complaints):
        go(page, f"{address}{PATHS[path][0]}")
        assert violations(page, path) == {}
        assert [width for width in (PHONE, TABLET, WIDE) if too_wide(page, width)] == []
        assert complaints == []


def test_paper_has_the_content_of_a_page_in_dark_ink_and_no_navigation(browser, address):
    with opened(browser, address, scheme="dark") as (page, complaints):
        for path in ("/calls", "/monitoring", "/performance"):
            go(page, f"{address}{path}")
            page.emulate_media(media="print")
            for hidden in ("header.bar", "form", "button", ".skip"):
                assert not any(element.is_visible() for element in page.locator(hidden).all()), (path, hidden)
            assert page.locator("main h1").is_visible()
            assert page.locator("main table").first.is_visible()
            red, green, blue = page.evaluate("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)")
            assert red + green + blue < 200, "light ink on white paper"
            assert page.pdf(format="A4").startswith(b"%PDF-")
            page.emulate_media(media="screen")
        assert complaints == []


def test_the_curve_is_drawn_and_times_are_in_the_readers_zone(browser, address):
    context = browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB")
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".series canvas", timeout=WAIT_MS)
    time_element = page.locator("time").first
    assert "UTC" not in time_element.inner_text()
    assert time_element.get_attribute("title").endswith("UTC")
    context.close()


def test_the_slider_recomputes_the_profit_without_a_new_page(browser, address):
    with opened(browser, address) as (page, complaints):
        page.goto(f"{address}/calls")
        before = page.inner_text(".tile b")
        page.locator("input[type=range][data-sets=capacity]").focus()
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
                go(page, f"{url}{path}")
                found |= violations(page, path)
            assert complaints == []
    assert found == {}


PICTURES: dict[str, tuple[str, int, int, Scheme]] = {
    "dashboard.png": ("/", 1280, 900, "light"),
    "dashboard_model.png": (f"/models/{WAITING}", 1280, 900, "dark"),
    "dashboard_compare.png": (f"/compare?a={CHAMPION}&b={WAITING}", 1280, 1100, "light"),
    "dashboard_phone.png": ("/calls?planned=1&capacity=100", PHONE, 844, "light"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_tour(browser, address, tmp_path, name):
    """`DASHBOARD_PICTURES=1 pytest churn_assets_tests/dashboard/in_browser -k "tour or mouse"` replaces those of the
    docs."""
    path, width, height, scheme = PICTURES[name]
    with opened(browser, address, width, scheme) as (page, _):
        page.set_viewport_size({"width": width, "height": height})
        go(page, f"{address}{path}")
        take_picture(page, name, tmp_path)
