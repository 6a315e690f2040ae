"""Outcomes of runs in which no step failed, or that were interrupted; and the lock of a home."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from churn_assets.defs.run import StepEvent, lock_home, prepare_home, run_graph
from churn_assets.errors import HomeBusy
from churn_assets_tests.defs.home import settings


class Unmade(dg.ConfigurableResource):
    """A resource that cannot be made, for a reason nobody foresaw."""

    name: str = "tool"  # without a field Dagster trips over a deprecation of pydantic's

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        raise ZeroDivisionError("nobody foresaw this")


@dg.asset
def thing(tool: Unmade) -> None:
    """Needs the tool."""


@dg.asset
def stopped() -> None:
    """Is stopped by ctrl-c."""
    raise KeyboardInterrupt


@dg.asset(deps=[stopped])
def later() -> None:
    """Never begins."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = settings(tmp_path)
    for name in found.library_environ():
        monkeypatch.setenv(name, "")  # so that what prepare_home sets is undone
    prepare_home(found)
    return tmp_path


def test_a_resource_that_fails_is_in_the_outcome(home):
    outcome = run_graph(dg.Definitions([thing], resources={"tool": Unmade()}), lambda event: None)
    assert not outcome.success
    assert any("nobody foresaw this" in line for line in outcome.failures)


def test_an_interruption_is_neither_a_failure_nor_an_error(home):
    events: list[StepEvent] = []
    outcome = run_graph(dg.Definitions([stopped, later]), events.append)
    assert outcome.interrupted
    assert (outcome.success, outcome.errors, outcome.failures) == (False, [], [])
    assert {event.step for event in events} <= {"", "stopped"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_a_home_is_held_by_one_run_and_given_back(tmp_path):
    with lock_home(tmp_path), pytest.raises(HomeBusy, match="another `churn run` is at work"), lock_home(tmp_path):
        pass
    with lock_home(tmp_path):
        pass
