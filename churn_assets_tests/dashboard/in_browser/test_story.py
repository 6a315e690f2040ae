"""A challenger is read, approved, let in by a canary, promoted and rolled back, by clicks and by the keyboard alone,
while a service on the same home answers with what was decided."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.status import read_events
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.in_browser.chromium import browser, opened, running, take_picture, violations
from churn_assets_tests.serving.client import served, wait_for
from churn_assets_tests.test_home_0_1 import CHAMPION, WAITING, customer, unpack

__all__ = ["browser"]  # a fixture

CUSTOMERS = [customer(number) for number in range(400)]  # that none has an arm of 5 % happens once in 10^9


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return unpack(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def service(home: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service on the home; it stays while people decide."""
    folder = tmp_path_factory.mktemp("service")
    with served(folder, home.home) as (url, process):
        wait_for(f"{url}/readyz", process, folder / "log")
        yield url


@pytest.fixture(scope="module")
def kept(home: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ledger and pointer before anybody decides."""
    folder = tmp_path_factory.mktemp("kept")
    for name in ("ledger.db", "champion.json"):
        shutil.copy(home.home / name, folder / name)
    return folder


@pytest.fixture
def undecided(home: Settings, kept: Path) -> Settings:
    """The home as it was, under the running service."""
    with closing(sqlite3.connect(kept / "ledger.db")) as before, closing(sqlite3.connect(home.ledger_path)) as ledger:
        before.backup(ledger)
    shutil.copy(kept / "champion.json", home.home / "new")
    (home.home / "new").replace(home.home / "champion.json")
    (home.home / "policy.json").unlink(missing_ok=True)
    shutil.rmtree(home.home / "releases", ignore_errors=True)
    return home


@dataclass(frozen=True)
class Mouse:
    """Clicks links and buttons, and writes into fields that it has clicked."""

    page: Page

    def follow(self, text: str) -> None:
        self.page.locator("main a, main button, nav a").filter(has_text=text).first.click()

    def write(self, name: str, text: str) -> None:
        field = self.page.locator(f"[name={name}]")
        field.click()
        field.press_sequentially(text)


@dataclass(frozen=True)
class Keyboard:
    """Presses Tab until the focus is where it shall be, then Enter, or letters."""

    page: Page

    def follow(self, text: str) -> None:
        self._reach(f"focused.matches('a, button') && focused.innerText.includes({text!r})", text)
        self.page.keyboard.press("Enter")

    def write(self, name: str, text: str) -> None:
        self._reach(f"focused.name === {name!r}", name)
        self.page.keyboard.type(text)

    def _reach(self, condition: str, text: str) -> None:
        for _ in range(120):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(f"(focused => {condition})(document.activeElement)"):
                assert self.page.evaluate("document.activeElement.matches(':focus-visible')")
                return
        raise AssertionError(f"the keyboard does not reach {text!r}")


def decide(page: Page, hand: Mouse | Keyboard, action: str, button: str, *, before: str, after: str) -> str:
    """Follow an action of a page, read its confirmation, confirm it; what the last page says."""
    hand.follow(action)
    page.wait_for_selector("textarea[name=why]")
    shown = " ".join(page.inner_text("main").split())
    now, then = shown.split("Now", 1)[1].split("After", 1)
    assert before in now
    assert after in then
    hand.write("by", "Ana")
    hand.write("why", f"{action} it")
    hand.follow(button)
    page.wait_for_selector("[role=status]")
    return page.inner_text("main")


def answered_soon(service: str, *versions: str) -> Counter[str]:
    """How many customers get an answer of which version, once these versions alone answer, within some seconds."""
    for _ in range(100):
        body = {"customers": CUSTOMERS, "as_of": "2024-12-30"}
        predictions = httpx.post(f"{service}/predict_batch", json=body, timeout=30).json()["predictions"]
        found = Counter(each["model_version"] for each in predictions)
        if found.keys() == set(versions):
            return found
        time.sleep(0.1)
    raise AssertionError(f"the service answers with {found}, expected {versions}")


def counted_soon(url: str) -> dict[str, int]:
    """Rows by arm on the page of the models, once the service has written what it counted."""
    for _ in range(100):
        arms = httpx.get(f"{url}/models.json").json()["release"]["arms"]
        if all(arm["rows"] for arm in arms):
            return {arm["name"]: arm["rows"] for arm in arms}
        time.sleep(0.1)
    raise AssertionError(f"the arms have {arms}, expected rows of both")


@pytest.mark.parametrize("kind", [Mouse, Keyboard], ids=["mouse", "keyboard"])
def test_from_the_waiting_challenger_to_its_answers_and_back(browser, service, undecided, tmp_path, kind):
    challenger = Ledger(undecided.ledger_path).challenger(WAITING)
    champion = f"champion {CHAMPION} 100.0%"
    answered_soon(service, CHAMPION)
    with running(undecided) as url, opened(browser, url) as (page, complaints):
        hand = kind(page)
        page.goto(url)
        hand.follow(WAITING)
        page.wait_for_url(f"{url}/models/{WAITING}")
        verdict = " ".join(page.inner_text("main").split())
        assert all(" ".join(check.message.split()) in verdict for check in challenger.verdict.checks)
        decide(page, hand, "Approve", f"Approve {WAITING}", before="waiting approval", after="approved")
        assert Ledger(undecided.ledger_path).challenger(WAITING).status == "approved"
        hand.follow("Back")
        page.wait_for_url(f"{url}/models/{WAITING}")
        decide(
            page, hand, "Canary", f"Start a canary of {WAITING}",
            before=champion, after=f"challenger {WAITING} 5.0% champion {CHAMPION} 95.0%",
        )  # fmt: skip
        assert answered_soon(service, WAITING, CHAMPION)[WAITING] < 60
        rows = counted_soon(url)
        assert 0 < rows["challenger"] < rows["champion"]
        hand.follow("Models")
        page.wait_for_url(f"{url}/models")
        assert "Canary" in page.inner_text("section.release h2")
        if kind is Mouse:
            assert violations(page, "canary") == {}
            page.set_viewport_size({"width": 1280, "height": 1250})
            take_picture(page, "dashboard_canary.png", tmp_path)
        decide(
            page, hand, f"Promote {WAITING}", f"Promote {WAITING}",
            before=f"challenger {WAITING} 5.0%", after=f"champion {WAITING} 100.0%",
        )  # fmt: skip
        answered_soon(service, WAITING)
        hand.follow("Models")
        page.wait_for_url(f"{url}/models")
        hand.follow(CHAMPION)
        page.wait_for_url(f"{url}/models/{CHAMPION}")
        said = decide(
            page, hand, "Roll back", f"Roll back to {CHAMPION}", before=f"champion {WAITING} 100.0%", after=champion
        )
        assert f"{CHAMPION} is champion (was {WAITING}), by Ana." in said
        answered_soon(service, CHAMPION)
        assert complaints == []
    assert read_champion(undecided.home).reason == "rollback: Roll back it"
    mine = [event.what for event in read_events(undecided) if event.by == "Ana"]
    assert [what for what in mine if what in ("approved", "promotion", "rollback")] == [
        "approved", "promotion", "rollback"
    ]  # fmt: skip
    assert "canary, step 1 of" in " ".join(mine)
