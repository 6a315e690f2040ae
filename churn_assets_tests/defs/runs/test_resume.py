"""What a run need not repeat of the one before, and why it starts from the beginning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.defs.io_manager import HomeIOManager
from churn_assets.defs.run import execute, prepare_home, prepare_run
from churn_assets.defs.runs.plan import step_seconds
from churn_assets.defs.runs.resume import COMMAND, RESUMES, RUN, Resumption, RunInputs, resume_run
from churn_assets.settings import Settings
from churn_assets_tests.defs.home import settings
from churn_assets_tests.strategies import STORE

INPUTS = RunInputs("table", "contract", "code", "options")
BROKEN: set[str] = set()  # steps that fail


def made(name: str) -> dict[str, str]:
    if name in BROKEN:
        raise ZeroDivisionError(name)
    return {"name": name}


@dg.asset
def first() -> dict[str, str]:
    """Is checked."""
    return made("first")


@dg.asset_check(asset=first)
def first_is_right() -> dg.AssetCheckResult:
    """A step of its own."""
    made("first_is_right")
    return dg.AssetCheckResult(passed=True)


@dg.asset
def second(first: dict[str, str]) -> dict[str, str]:
    """Needs the first."""
    return made("second")


@dg.asset
def third(second: dict[str, str]) -> dict[str, str]:
    """Needs the second."""
    return made("third")


@dg.asset
def other() -> dict[str, str]:
    """Needs nothing."""
    return made("other")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    own = settings(tmp_path)
    for name in own.library_environ():
        monkeypatch.setenv(name, "")
    prepare_home(own)
    yield own
    BROKEN.clear()


def definitions(home: Settings) -> dg.Definitions:
    manager = HomeIOManager(folder=str(home.assets_dir), contract="")
    return dg.Definitions(
        [first, second, third, other], asset_checks=[first_is_right], resources={"io_manager": manager}
    )


def run(home: Settings, *broken: str, tags: dict[str, str] | None = None, select: list[str] | None = None) -> str:
    BROKEN.clear()
    BROKEN.update(broken)
    prepared = prepare_run(definitions(home), select, tags={COMMAND: RUN, **INPUTS.tags()} if tags is None else tags)
    execute(prepared, lambda event: None)
    return prepared.run_id


def resumption(home: Settings, inputs: RunInputs = INPUTS) -> Resumption:
    defs = definitions(home)
    with dg.DagsterInstance.get() as instance:
        return resume_run(defs, prepare_run(defs).assets, inputs, instance, home.assets_dir)


def remaining(found: Resumption) -> set[str]:
    return {key.to_user_string() for key in found.remaining}


def test_finished_steps_are_kept_with_their_checks_and_the_rest_is_made(home):
    earlier = run(home, "second")
    found = resumption(home)
    assert found.run_id == earlier
    assert found.finished == {"first", "first_first_is_right", "other"}
    assert remaining(found) == {"second", "third"}
    assert found.message == f"goes on with run {earlier[:8]}: 3 steps are finished"


def test_an_asset_whose_check_did_not_end_is_made_again_with_what_needs_it(home):
    run(home, "first_is_right")
    assert remaining(resumption(home)) == {"first", "second", "third"}


def test_a_file_that_is_gone_is_made_again_with_what_needs_it(home):
    run(home, "third")
    (home.assets_dir / "second.json").unlink()
    assert remaining(resumption(home)) == {"second", "third"}


def test_an_asset_that_another_run_made_since_is_made_again(home):
    run(home, "third")
    run(home, tags={}, select=["first"])
    assert remaining(resumption(home)) == {"first", "second", "third"}


def test_a_resumed_run_that_stops_again_is_resumed_with_all_that_is_finished(home):
    earlier = run(home, "second")
    tags = {COMMAND: RUN, **INPUTS.tags(), RESUMES: earlier}
    run(home, "third", tags=tags, select=["second", "third"])
    assert remaining(resumption(home)) == {"third"}


@pytest.mark.parametrize("name", [field.name for field in fields(RunInputs)])
def test_other_inputs_start_from_the_beginning_and_are_named(home, name):
    earlier = run(home, "third")
    found = resumption(home, replace(INPUTS, **{name: "changed"}))
    assert found.run_id is None
    assert found.message.startswith("starts from the beginning: ")
    assert found.message.endswith(f" since run {earlier[:8]}")


def test_nothing_to_go_on_with_is_said(home):
    assert resumption(home).message == "starts from the beginning: there is no earlier run in this home"
    earlier = run(home, "first", "other")
    assert resumption(home).message == f"starts from the beginning: run {earlier[:8]} finished no step"
    run(home)
    assert resumption(home).message == "starts from the beginning: the last run is complete"
    with dg.DagsterInstance.get() as instance:
        assert {"first", "second", "third"} <= step_seconds(instance).keys()


def test_inputs_are_contents_and_not_times(tmp_path):
    def inputs(**changes: Any) -> RunInputs:
        own = Settings.from_environ({"CHURN_HOME": str(tmp_path), "CHURN_SOURCE": str(source)})
        return RunInputs.of(own, changes.get("contract", STORE), changes.get("tune", 0))

    source = tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": [1]}), source)
    before = inputs()
    os.utime(source, (0, 0))
    assert inputs() == before
    assert inputs(tune=3) == replace(before, options=inputs(tune=3).options) != before
    other = replace(STORE, text=STORE.text + "\n# attested")
    assert inputs(contract=other) == replace(before, contract=inputs(contract=other).contract) != before
    pq.write_table(pa.table({"x": [2]}), source)
    assert inputs() == replace(before, source=inputs().source) != before
