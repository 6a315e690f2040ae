"""The definitions as Dagster sees them: complete, light, the same as written down here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.dashboard.pages.registry import PAGES
from churn_assets.definitions import build
from churn_assets.defs.policy import DASHBOARD_PAGES
from churn_assets.settings import Settings
from churn_assets_tests.defs.home import ROOT, settings

SNAPSHOT = Path(__file__).with_name("definitions.txt")
HEAVY = ("mlflow", "xgboost", "torch", "sklearn", "evidently", "pandas", "matplotlib", "bentoml", "scipy", "duckdb")
MONITORING = (
    *("prediction_log", "feedback_log", "labelled_predictions", "data_quality_report", "drift_report"),
    *("performance_report", "release_report", "retraining_decision", "promotion"),
)
NAMES = (
    *MONITORING,
    *("raw_customers", "validated_customers", "rejected_customers", "customer_features", "splits"),
    *("logistic_candidate", "boosted_candidate", "deep_candidate", "network_candidate"),
    *("column_audit", "chosen_model", "cross_fitted_scores", "registered_model"),
    *("leakage_audit", "risk_list", "churn_bento", "cross_validation", "data_profile", "model_report"),
)


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build(settings(tmp_path_factory.mktemp("home") / "not_made"))


@pytest.fixture(scope="module")
def graph(defs: dg.Definitions):
    return defs.resolve_asset_graph()


def test_the_assets_are_these(graph):
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_asset_is_described_grouped_owned_versioned_and_checked(graph, name):
    node = graph.get(dg.AssetKey(name))
    assert node.description
    assert node.group_name in {"data", "training", "release", "scoring", "monitoring"}
    assert node.owners == ["team:churn"]
    assert node.kinds
    assert node.code_version
    assert graph.get_check_keys_for_assets({node.key})


@pytest.mark.parametrize(
    "name",
    [
        *("raw_customers", "validated_customers", "rejected_customers", "customer_features", "splits", "risk_list"),
        "labelled_predictions",
    ],
)
def test_every_table_has_a_schema_from_the_contract(graph, name):
    schema = graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
    assert schema.columns
    assert all(column.description for column in schema.columns)


def test_assets_name_the_page_of_the_dashboard_that_shows_them(tmp_path, graph):
    assert set(DASHBOARD_PAGES) <= set(NAMES)
    assert set(DASHBOARD_PAGES.values()) <= {page.path for page in PAGES}
    assert graph.get(dg.AssetKey("risk_list")).metadata["dashboard"].value == "http://localhost:3001/calls"
    hidden = build(replace(settings(tmp_path / "none"), dashboard_url="")).resolve_asset_graph()
    assert "dashboard" not in hidden.get(dg.AssetKey("risk_list")).metadata


def test_lineage_reaches_columns_that_exist(graph):
    for name in ("validated_customers", "customer_features", "splits", "risk_list"):
        node = graph.get(dg.AssetKey(name))
        columns = {column.name for column in node.metadata["dagster/column_schema"].columns}
        for column, deps in node.metadata["dagster/column_lineage"].deps_by_column.items():
            assert column in columns
            for dep in deps:
                upstream = graph.get(dep.asset_key).metadata["dagster/column_schema"]
                assert dep.column_name in {c.name for c in upstream.columns}


def test_definitions_are_as_written_down(defs, graph):
    """A change of the graph shows as a difference of this file; write it anew with `python -m` of this module."""
    assert SNAPSHOT.read_text() == snapshot(defs, graph)
    assert SNAPSHOT.read_text().count("\n") < 150


def test_what_trains_or_scores_is_off_until_someone_turns_it_on(defs):
    schedules = defs.get_repository_def().schedule_defs
    on = {s.name for s in schedules if s.default_status is dg.DefaultScheduleStatus.RUNNING}
    assert on == {"hourly_ingest", "daily_monitoring"}
    assert {s.name for s in schedules} - on == {"weekly_retraining", "nightly_scoring"}


def test_the_sensors_of_the_loop_are_on(defs):
    on = {s.name for s in defs.get_repository_def().sensor_defs if s.default_status is dg.DefaultSensorStatus.RUNNING}
    assert {"ingest_on_new_segments", "retrain_on_decision", "promote_on_approval", "alert_on_failure"} <= on


def test_training_makes_all_but_the_list_and_scoring_the_list(defs):
    repository = defs.get_repository_def()
    jobs = {name: repository.get_job(name).asset_layer.selected_asset_keys for name in ("train", "score")}
    assert {k.to_user_string() for k in jobs["train"]} == set(NAMES) - {"risk_list", *MONITORING}
    assert {k.to_user_string() for k in jobs["score"]} == {"risk_list"}


@pytest.mark.parametrize(("named", "executor"), [("in_process", "in_process"), ("forkserver", "forkserver")])
def test_the_executor_is_the_settings(tmp_path, named, executor):
    defs = build(settings(tmp_path, CHURN_EXECUTOR=named))
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == executor


def test_building_makes_nothing(tmp_path):
    build(settings(tmp_path / "home"))
    assert list(tmp_path.iterdir()) == []


def test_another_contract_is_another_graph_of_columns(tmp_path):
    of = Settings.from_environ({"CHURN_HOME": str(tmp_path), "CHURN_CONTRACT": "contracts/telecom.toml"}, ROOT)
    graph = build(of).resolve_asset_graph()
    schema = graph.get(dg.AssetKey("customer_features")).metadata["dagster/column_schema"]
    contract = load_contract(of.contract_path)
    assert {f.name for f in contract.features if f.model} <= {column.name for column in schema.columns}


def test_loading_the_definitions_imports_nothing_heavy():
    code = f"import sys, churn_assets.definitions; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def snapshot(defs: dg.Definitions, graph) -> str:
    """One line an asset, check, job, schedule, sensor and resource."""
    lines = []
    for key in sorted(graph.get_all_asset_keys(), key=lambda k: k.to_user_string()):
        node = graph.get(key)
        parents = ", ".join(sorted(p.to_user_string() for p in node.parent_keys)) or "-"
        about = f"{node.group_name} [{', '.join(sorted(node.kinds))}] v{node.code_version}"
        lines.append(f"asset {key.to_user_string()}: {about} <- {parents}")
        for check in sorted(graph.get_check_keys_for_assets({key}), key=str):
            blocking = " (blocking)" if graph.get_check_spec(check).blocking else ""
            lines.append(f"  check {check.name}{blocking}")
    repository = defs.get_repository_def()
    jobs = [name for name in sorted(repository.get_all_jobs(), key=lambda j: j.name) if not name.name.startswith("__")]
    lines += [f"job {job.name}" for job in jobs]
    schedules = sorted(repository.schedule_defs, key=lambda s: s.name)
    lines += [f"schedule {s.name}: {s.cron_schedule} -> {s.job_name}" for s in schedules]
    lines += [f"sensor {s.name}" for s in sorted(repository.sensor_defs, key=lambda s: s.name)]
    lines += [f"resource {name}" for name in sorted(repository.get_top_level_resources())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    made = build(Settings.from_environ({}, ROOT))
    SNAPSHOT.write_text(snapshot(made, made.resolve_asset_graph()))
