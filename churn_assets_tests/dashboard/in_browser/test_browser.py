"""The pages in Debian's Chromium: accessibility, widths, light and dark, paper, live updates; the pictures of the
tour."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.release.policy import CHALLENGER, read_policy
from churn_assets.release.policy import CHAMPION as CHAMPION_ARM
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.in_browser.chromium import (
    PHONE,
    WAIT_MS,
    Scheme,
    address,
    browser,
    go,
    opened,
    running,
    take_picture,
    too_narrow,
    unprintable,
    violations,
)
from churn_assets_tests.dashboard.models.test_release import answered_by_arms, count, judged, scored_by_both
from churn_assets_tests.dashboard.test_monitoring import changed
from churn_assets_tests.dashboard.test_pages import PATHS
from churn_assets_tests.test_home_0_1 import CHAMPION, FINGERPRINT, FIRST, WAITING, WINDOWS

__all__ = ["address", "browser"]  # fixtures


CONFIRMATIONS = (f"/models/{FIRST}/roll-back", f"/ab?name_{FIRST}=new&share_{FIRST}=20")


@pytest.mark.parametrize("path", [*(page for page, _ in PATHS.values()), *CONFIRMATIONS])
def test_a_page_violates_no_rule_of_accessibility_fits_window_and_paper_and_fetches_from_nowhere_else(
    browser, address, path
):
    with opened(browser, address) as (page, complaints):
        go(page, f"{address}{path}")
        assert violations(page, path) == {}
        assert too_narrow(page) == []
        assert unprintable(page) == []
        assert complaints == []


def a_shadow(settings):
    Releases.of(settings).shadow(WAITING, "ana", "does it agree?")
    policy = count(settings, {CHALLENGER: (400, 0), CHAMPION_ARM: (400, 0)}, pairs=True)
    scored_by_both(settings, policy)
    judged(settings, policy.at + dt.timedelta(minutes=1))


def an_ab(settings):
    Releases.of(settings).ab({"new": AbArm(FIRST, 0.2)}, "ana", "which is better")
    answered_by_arms(settings, read_policy(settings.home))
    count(settings, {"new": (40, 0), CHAMPION_ARM: (160, 1)})


@pytest.mark.parametrize("begin", [a_shadow, an_ab])
def test_the_panels_of_a_release_violate_no_rule_and_follow_without_taking_the_focus(browser, settings, begin):
    begin(settings)
    with running(settings) as url, opened(browser, url) as (page, complaints):
        page.clock.install()
        go(page, f"{url}/models")
        page.locator("#release td a").first.focus()
        focused = page.evaluate("document.activeElement.outerHTML")
        count(settings, dict.fromkeys(("new", CHALLENGER, CHAMPION_ARM), (777, 0)), pairs=begin is a_shadow)
        page.clock.fast_forward(16_000)
        page.wait_for_function("() => document.querySelector('#release table').innerText.includes('777')")
        assert page.evaluate("document.activeElement.outerHTML") == focused
        assert page.locator(".release svg").count() == 1
        assert violations(page, "/models") == {}
        assert too_narrow(page) == []
        assert unprintable(page) == []
        assert complaints == []


def test_outliers_refusals_and_the_sign_in_violate_no_rule(browser, settings):
    newest = json.loads((settings.monitoring_dir / FINGERPRINT[:12] / f"{WINDOWS:04d}" / "window.json").read_text())
    changed(
        settings,
        f"UPDATE predictions SET x_avgorder = 1e6 WHERE seq = {newest['to_seq']}; "
        "INSERT INTO rejections SELECT 1, '2026-11-26 09:00', '2026-11-26 09:01', 'w', 'busy', 3, 's'",
    )
    found = {}
    with running(settings) as url, opened(browser, url) as (page, complaints):
        go(page, f"{url}/monitoring")
        assert page.get_by_text("training rows 0").count() + page.get_by_text("1e+06").count() > 0
        found |= violations(page, "/monitoring")
        assert too_narrow(page) == []
        KeyStore(settings.home).create("ana", ("view",), None, dt.datetime.now(dt.UTC))
        page.wait_for_timeout(1100)  # the keys are looked at each second
        go(page, f"{url}/sign-in")
        found |= violations(page, "/sign-in")
        assert complaints == []
    assert found == {}


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
