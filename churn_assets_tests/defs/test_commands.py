"""Dagster's own commands, with and without DAGSTER_HOME, and that two homes never touch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from churn_assets.defs.instance import HomeInstance
from churn_assets_tests.defs.home import ROOT

SOURCE = "generated://store?rows=400&seed=7"


def dagster(home: Path, *arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHURN_") and k != "DAGSTER_HOME"}
    told = {**kept, "CHURN_HOME": str(home), "CHURN_SOURCE": SOURCE, **environ}
    command = [sys.executable, "-m", "dagster", *arguments]
    return subprocess.run(command, cwd=cwd, env=told, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_bare_materialize_keeps_its_history_in_its_home_and_nowhere_else(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    project = tmp_path / "project"  # of its own, so that what else runs in the repository does not show
    shutil.copytree(ROOT / "contracts", project / "contracts")
    shutil.copy(ROOT / "dagster.yaml", project)
    before = contents(project)
    select = ("asset", "materialize", "-m", "churn_assets.definitions", "--select", "raw_customers")
    assert dagster(one, *select, cwd=project).returncode == 0
    first = contents(one)
    assert "assets/raw_customers.parquet" in first
    assert "dagster/history/runs.db" in first
    assert dagster(two, *select, cwd=project).returncode == 0
    assert contents(one) == first
    assert (two / "dagster" / "history" / "runs.db").is_file()
    assert contents(project) == before
    assert {path.name for path in project.iterdir()} == {"contracts", "dagster.yaml"}


@pytest.mark.parametrize("named", [False, True], ids=["without DAGSTER_HOME", "with DAGSTER_HOME"])
def test_definitions_validate(tmp_path, named):
    environ = {}
    if named:
        (tmp_path / "dagster").mkdir()
        shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster" / "dagster.yaml")
        environ = {"DAGSTER_HOME": str(tmp_path / "dagster")}
    done = dagster(tmp_path, "definitions", "validate", "-m", "churn_assets.definitions", **environ)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_list_names_every_asset(tmp_path):
    done = dagster(tmp_path, "asset", "list", "-m", "churn_assets.definitions")
    assert len(done.stdout.split()) >= 12
    assert {"raw_customers", "chosen_model", "risk_list", "churn_bento"} <= set(done.stdout.split())


def test_a_wrong_contract_is_told_in_its_own_words(tmp_path):
    (tmp_path / "bad.toml").write_text("name = 3\n")
    contract = str(tmp_path / "bad.toml")
    done = dagster(tmp_path, "asset", "list", "-m", "churn_assets.definitions", CHURN_CONTRACT=contract)
    assert done.returncode != 0
    assert "bad.toml" in done.stderr


@pytest.mark.parametrize(("switch", "on"), [("", False), ("0", False), ("1", True)])
def test_dagster_phones_home_only_when_the_switch_is_on(tmp_path, monkeypatch, switch, on):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHURN_TELEMETRY", switch)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT))) as instance:
        assert isinstance(instance, HomeInstance)
        assert instance.telemetry_enabled is on
        assert str(tmp_path / "home" / "dagster") in instance.storage_directory()
