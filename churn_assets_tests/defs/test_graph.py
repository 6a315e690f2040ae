"""The whole graph, run once on generated customers, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import load_contract
from churn_assets.data.versions.store import TableStore
from churn_assets.defs.run import tuning_config
from churn_assets.errors import AssetStale, TableNotKept
from churn_assets.features.encode import encode_table
from churn_assets.promotion.pointer import require_champion, write_champion
from churn_assets.promotion.registration import read_registration_record
from churn_assets.promotion.status import (
    list_version,
    read_registration,
    read_status,
    report_folder,
    report_version,
    require_own_list,
)
from churn_assets.reporting.model.collect import CARD, METRICS, PAGE
from churn_assets.reporting.model.facts import Report
from churn_assets.reporting.model.publish import publish_champion, write_reports
from churn_assets.reporting.run_summary import read_run_summary
from churn_assets.reproduction.record import Tables, read_record, write_record
from churn_assets.reproduction.retrain import reproduce
from churn_assets.scoring.bundle import load_bundle, read_card, read_ladder, read_provenance, read_reference
from churn_assets.settings import Settings
from churn_assets_tests.cli.test_main import churn
from churn_assets_tests.defs.home import CANDIDATES, checks, metadata, run, settings
from churn_assets_tests.defs.test_definitions import NAMES

TABLES = ("raw_customers", "validated_customers", "rejected_customers", "splits", "customer_features", "risk_list")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    of = settings(tmp_path_factory.mktemp("home"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield of, run(of, instance), instance


def test_every_asset_is_made_and_no_check_stops_the_run(made):
    _, result, _ = made
    assert result.success
    assert len(result.get_asset_materialization_events()) == len(NAMES)
    warned = {name for name, passed in checks(result).items() if not passed}
    assert warned <= {
        "the_probabilities_are_calibrated",
        "the_test_figure_is_no_lucky_draw",
    }  # 450 validation rows are few


def test_every_table_tells_rows_contract_and_source(made):
    of, result, _ = made
    fingerprint = load_contract(of.contract_path).fingerprint
    for asset in TABLES:
        told = metadata(result, asset)
        assert told["dagster/row_count"] == pq.read_metadata(of.assets_dir / f"{asset}.parquet").num_rows
        if asset != "rejected_customers":
            assert told["contract_fingerprint"] == fingerprint
            assert "generated customers" in told["source"]


def test_pictures_are_shown_in_place(made):
    _, result, _ = made
    shown = {
        asset
        for asset in ("raw_customers", "validated_customers", "chosen_model", "leakage_audit", "risk_list")
        if any("data:image/svg+xml;base64," in str(v) for v in metadata(result, asset).values())
    }
    assert shown == {"raw_customers", "validated_customers", "chosen_model", "leakage_audit", "risk_list"}


def test_features_name_the_columns_they_come_from(made):
    _, result, _ = made
    lineage = metadata(result, "customer_features")["dagster/column_lineage"].deps_by_column
    assert [dep.column_name for dep in lineage["opens"]] == ["eopenrate", "esent"]
    assert {dep.asset_key.to_user_string() for dep in lineage["opens"]} == {"validated_customers"}


def test_nothing_below_the_home_is_pickled(made):
    of, _, _ = made
    for path in Path(of.home).rglob("*"):
        if path.is_file():
            assert path.suffix not in {".pkl", ".pickle", ".joblib", ".pt", ".pth"}, path
            assert path.read_bytes()[:2] not in {b"\x80\x04", b"\x80\x05"}, path


def test_the_reference_has_out_of_fold_scores_of_training_and_validation_customers(made):
    of, _, _ = made
    splits = pq.read_table(of.assets_dir / "splits.parquet")
    part = dict(zip(splits["customer_id"].to_pylist(), splits["random"].to_pylist(), strict=True))
    reference = read_reference(require_champion(of.home).path(of.home))
    scored = dict(zip(reference["custid"].to_pylist(), reference["churn_probability"].to_pylist(), strict=True))
    assert {part[customer] for customer in scored} == {"train", "validation"}
    scorer = load_bundle(require_champion(of.home).path(of.home))
    own = scorer.score_table(reference, reference.schema.metadata[b"churn_as_of"].decode()).probability
    assert np.mean(own != np.array(list(scored.values()))) > 0.9  # by models that were not trained on them


def test_the_list_holds_the_champions_scores_of_active_customers(made):
    of, _, _ = made
    listed = pq.read_table(of.assets_dir / "risk_list.parquet")
    customers = pq.read_table(of.assets_dir / "validated_customers.parquet")
    scorer = load_bundle(require_champion(of.home).path(of.home))
    as_of = customers.schema.metadata[b"churn_as_of"].decode()
    expected = dict(
        zip(
            customers[scorer.contract.key.name].to_pylist(),
            scorer.score(encode_table(scorer.contract, customers), as_of).probability,
            strict=True,
        )
    )
    churned = dict(zip(customers[scorer.contract.key.name].to_pylist(), customers["churned"].to_pylist(), strict=True))
    found = dict(zip(listed["customer_id"].to_pylist(), listed["churn_probability"].to_pylist(), strict=True))
    assert set(found) == {customer for customer, gone in churned.items() if not gone}
    assert all(abs(found[customer] - expected[customer]) < 1e-12 for customer in found)
    assert (of.reports_dir / "risk_list.csv").read_text().count("\n") == listed.num_rows + 1


def test_one_mlflow_run_holds_the_whole_training(made):
    of, result, _ = made
    runs = _rows(of, "select run_uuid, status from runs")
    assert [status for _, status in runs] == ["FINISHED"]
    tags = dict(_rows(of, "select key, value from tags"))
    assert tags["dagster_run_id"] == result.run_id
    assert tags["fingerprint"] == load_contract(of.contract_path).fingerprint
    assert len(tags["data_sha256"]) == 64
    assert tags["git_commit"]
    assert tags["generated"] == "True"
    metrics = {key for (key,) in _rows(of, "select key from metrics")}
    assert {"test_pr_auc", "oot_pr_auc", "boosted.random.validation.pr_auc"} <= metrics
    parameters = dict(_rows(of, "select key, value from params"))
    assert parameters["boosted.rounds"] == "40"
    kept = {
        path.name for path in (of.mlflow_dir / "artifacts").rglob("plots/*.svg") if not path.name.startswith("report_")
    }
    assert kept == {
        "candidates.svg",
        "precision_and_recall.svg",
        "calibration.svg",
        "profit.svg",
        "profit_assumptions.svg",
        "leakage_audit.svg",
    }


def test_the_first_model_is_champion_everywhere(made):
    of, _, _ = made
    champion = require_champion(of.home)
    stored = json.loads((of.assets_dir / "registered_model.json").read_text())
    assert (stored["alias"], stored["version"]) == ("champion", champion.version)
    assert _rows(of, "select alias, version from registered_model_aliases") == [("champion", 1)]
    assert champion.registered_version == 1
    bento = of.bento_home / "bentos" / "churn" / champion.version
    packed = json.loads((bento / "src" / "bundle" / "manifest.json").read_text())
    assert packed["version"] == champion.version
    ladder = read_ladder(bento / "src" / "bundle", champion.version)
    assert ladder is not None
    assert ladder == read_ladder(champion.path(of.home), champion.version)
    assert ladder.rungs == json.loads((of.assets_dir / "leakage_audit.json").read_text())["rungs"]


def test_every_place_that_shows_the_champions_pr_auc_shows_the_same(made):
    """The card is the source; ladder, report, comparison, MLflow, registration record and status repeat it."""
    of, _, _ = made
    champion = require_champion(of.home)
    card = read_card(champion.path(of.home))
    keys = [f"{part}_pr_auc{end}" for part in ("test", "oot") for end in ("", "_low", "_high")]
    expected = [card.metrics[key] for key in keys]

    def figures(parts: dict[str, Any], names: tuple[str, str], value: str) -> list[float]:
        return [parts[name][key] for name in names for key in (value, "low", "high")]

    ladder = json.loads((of.assets_dir / "leakage_audit.json").read_text())["rungs"][0]
    report = json.loads((of.reports_dir / "metrics.json").read_text())
    sides = {name: side["metrics"]["pr_auc"] for name, side in report["sides"].items()}
    tracked = dict(_rows(of, "select key, value from latest_metrics"))
    stored = json.loads((of.assets_dir / "chosen_model.json").read_text())
    shown = {
        "ladder": figures(ladder, ("random", "out_of_time"), "pr_auc"),
        "ladder of the report": figures(report["ladder"]["rungs"][0], ("random", "out_of_time"), "pr_auc"),
        "report": figures(sides, ("test", "oot"), "value"),
        "chosen_model": [stored["metrics"][key] for key in keys],
        "MLflow": [tracked[key] for key in keys],
        "status": [read_status(of).to_json()["metrics"][key] for key in keys],
    }
    assert shown == dict.fromkeys(shown, expected)
    row = next(row for row in card.comparison if row.candidate == card.chosen)
    only = [card.metrics["test_pr_auc"], card.metrics["oot_pr_auc"]]
    assert [row.test_pr_auc, row.oot_test_pr_auc] == only
    assert [tracked["audit.random.pr_auc"], tracked["audit.out_of_time.pr_auc"]] == only
    assert read_registration_record(of.home, champion.version).pr_auc == only[0]
    pages = [(of.reports_dir / name).read_text() for name in ("model_report.html", "model_card.md")]
    for page, figure in itertools.product(pages, only):
        assert f"{figure:.3f}" in page


def test_report_and_list_are_the_champions_whatever_else_was_trained_and_whoever_is_champion(made, tmp_path):
    first, _, _ = made
    of = settings(tmp_path / "home")
    shutil.copytree(first.home, of.home)
    champion, challenger = require_champion(of.home), "c" * 16
    report = msgspec.json.decode((of.reports_dir / METRICS).read_bytes(), type=Report)
    assert report_version(of) == list_version(of) == champion.version
    assert (report_folder(of, champion.version) / PAGE).read_bytes() == (of.reports_dir / PAGE).read_bytes()

    other = msgspec.structs.replace(report, model=msgspec.structs.replace(report.model, version=challenger))
    written = write_reports(other, champion.path(of.home), of)
    assert {path.parent for path in written.values()} == {of.reports_dir / challenger}
    role = f"challenger: when this report was made, model {champion.version} was champion"
    assert all(role in written[name].read_text() for name in (PAGE, CARD))
    assert (report_version(of), read_status(of).notes) == (champion.version, ())
    assert read_status(of).paths["report"] == str(of.reports_dir / PAGE)
    assert read_status(of).paths["call_list"] == str(read_run_summary(of).places["call list"])

    write_champion(of.home, dataclasses.replace(champion, version=challenger))  # as a promotion does
    status = read_status(of)
    assert status.paths["report"] == str(of.reports_dir / challenger / PAGE)
    assert "call_list" not in status.paths
    assert f"is of model {champion.version}, not of champion {challenger}" in " ".join(status.to_json()["notes"])
    with pytest.raises(AssetStale, match=r"score the customers with it: churn run --select risk_list"):
        require_own_list(of)

    assert read_registration(of) is None  # it made another one champion
    publish_champion(of)
    assert report_version(of) == challenger
    assert f"champion {challenger} has no call list" in " ".join(read_status(of).notes)
    assert read_run_summary(of).places["report"] == of.reports_dir / PAGE
    assert all(role not in (of.reports_dir / name).read_text() for name in (PAGE, CARD))
    assert not (of.reports_dir / "risk_list.csv").exists()
    assert (of.reports_dir / champion.version / "risk_list.csv").is_file()
    write_champion(of.home, champion)  # as a rollback does
    publish_champion(of)
    assert report_version(of) == read_registration(of).version == champion.version
    assert (of.reports_dir / PAGE).read_bytes() == (first.reports_dir / PAGE).read_bytes()


def test_the_same_training_again_gives_the_same_version_and_registers_nothing(made):
    of, _, _ = made
    with dg.DagsterInstance.ephemeral() as instance:
        again = run(of, instance, ["boosted_candidate", "chosen_model", "registered_model"])
    assert again.success
    assert metadata(again, "registered_model")["bundle_version"] == require_champion(of.home).version
    assert _rows(of, "select version from model_versions") == [(1,)]
    assert len(_rows(of, "select run_uuid from runs")) == 2


def test_the_tables_of_the_training_are_kept_and_shown(made):
    of, result, _ = made
    store = TableStore(of.tables_dir)
    version = require_champion(of.home).version
    record = read_record(of.bundles_dir, version)
    origin = read_provenance(of.bundles_dir / version)
    kept = {name: getattr(record.tables, name) for name in ("raw", "validated", "splits")}
    assert (origin.raw_data, origin.validated_data) == (kept["raw"], kept["validated"])
    assert set(kept.values()) == store.versions().keys()
    for name, asset in (("raw", "raw_customers"), ("validated", "validated_customers"), ("splits", "splits")):
        manifest = store.find(kept[name])
        stored = pq.read_table(of.assets_dir / f"{asset}.parquet")
        assert (manifest.table, manifest.rows) == (name, stored.num_rows)
        assert store.read(manifest).equals(stored, check_metadata=True)
        assert name == "splits" or metadata(result, asset)["data_version"] == kept[name]
    assert store.find(kept["validated"]).made_from == kept["raw"]
    assert metadata(result, "chosen_model")["data_version"] == kept["validated"]
    assert dict(_rows(of, "select key, value from tags"))["validated_data"] == kept["validated"]


def test_another_training_names_what_differs_and_ends_with_1(made, tmp_path):
    first, _, _ = made
    home, version = tmp_path / "home", require_champion(first.home).version
    for name in ("bundles", "tables"):
        shutil.copytree(first.home / name, home / name)
    record = read_record(home / "bundles", version)
    store = TableStore(home / "tables")
    changed = store.read(store.find(record.tables.validated)).slice(1500)
    splits = store.read(store.find(record.tables.splits)).slice(1500)
    environment = msgspec.structs.replace(record.environment, libraries={"numpy": "1.0"}, cpu=["avx9"])
    other = msgspec.structs.replace(
        record,
        environment=environment,
        contract=record.contract + "\n# a comment\n",
        parameters={"logistic": record.parameters["logistic"]},  # one candidate is enough to be another model
        tables=Tables(
            record.tables.raw, store.keep("validated", changed).version, store.keep("splits", splits).version
        ),
    )
    write_record(home / "bundles" / version, other)
    done = churn("reproduce", version[:8], home=home)
    assert done.returncode == 1, done.stderr
    assert f"{version} (of " in done.stdout
    assert ": another bundle, " in done.stdout
    assert "files that differ: calibration.json, card.json" in done.stdout
    for clause in (
        "numpy was 1.0, is ",
        "torch was not installed, is ",
        "processor lacks avx9",
        "the raw table is validated otherwise now: ",
        "the table had ",
        "test_pr_auc was ",
        "the contract in use, ",
    ):
        assert f"differs: {clause}" in done.stdout
    store.remove([other.tables.splits])
    with pytest.raises(TableNotKept, match=f"version {other.tables.splits} of the table 'splits' was removed"):
        reproduce(settings(home), other, tmp_path)


def test_mlflow_answers_as_the_scorer_does(made):
    of, _, _ = made
    from churn_assets.mlflow_registry.connect import quiet

    with quiet():
        import mlflow
        import pandas as pd

        mlflow.set_tracking_uri(of.mlflow_uri)
        model = mlflow.pyfunc.load_model("models:/churn@champion")
    scorer = load_bundle(require_champion(of.home).path(of.home))
    golden = json.loads((require_champion(of.home).path(of.home) / "golden.json").read_text())
    names = [column.name for column in scorer.contract.scoring_columns]
    frame = pd.DataFrame([{name: row[name] for name in names} for row in golden["rows"]])
    for column in scorer.contract.scoring_columns:
        if column.kind in ("number", "integer"):
            frame[column.name] = frame[column.name].astype("float64")
    found = model.predict(frame, params={"as_of": "1970-01-01" if not golden["as_of_days"] else _day(golden)})
    assert found == pytest.approx(golden["probability"], abs=1e-9)


def _day(golden: dict[str, Any]) -> str:
    from datetime import date, timedelta

    return (date(1970, 1, 1) + timedelta(days=golden["as_of_days"])).isoformat()


def _rows(of: Settings, query: str) -> list[Any]:
    with sqlite3.connect(of.mlflow_dir / "mlflow.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_the_list_says_why_and_the_segments_are_beside_it(made):
    of, result, _ = made
    listed = pq.read_table(of.assets_dir / "risk_list.parquet")
    contacted = listed.filter(listed["contact"])
    assert all(contacted["reason_1"].to_pylist())
    explained = max(1000, contacted.num_rows)
    assert (
        listed["reason_1"].null_count == listed["reason_1"].slice(explained).null_count == listed.num_rows - explained
    )
    told = metadata(result, "risk_list")
    assert "Shapley values" in told["reasons"]
    assert "city" in told["expected_loss_by_segment"]
    header = (of.reports_dir / "segments.csv").read_text().splitlines()[0]
    assert header.startswith('"column","segment","customers","expected_churners"')


def test_the_card_has_the_profit_and_the_choice_says_what_it_hangs_on(made):
    of, result, _ = made
    profit = json.loads((require_champion(of.home).path(of.home) / "card.json").read_text())["profit"]
    told = metadata(result, "chosen_model")
    assert f"{profit['chosen']['profit']:.2f} per customer of the table" in told["profit_in_words"]
    assert "data:image/svg+xml" in told["profit_assumptions"]


def test_cross_validation_has_the_chosen_recipe_and_the_baseline(made):
    of, result, _ = made
    found = json.loads((of.assets_dir / "cross_validation.json").read_text())
    assert {row["model"] for row in found["summary"]} >= {found["chosen"], "logistic"}
    assert "±" in metadata(result, "cross_validation")["pr_auc"]


def test_what_a_study_found_is_used_by_later_trainings_of_the_same_data(made):
    of, result, instance = made
    assert metadata(result, "logistic_candidate")["tuning"] == "none: defaults"
    name = "logistic_candidate"
    tuned = run(of, instance, [name], {name: {"config": {"trials": 3}}})
    later = run(of, instance, [name])
    without = run(of, instance, [name], {name: {"config": {"tuned": False}}})
    assert "3 trials" in metadata(tuned, name)["tuning"]
    assert metadata(later, name)["tuning"] == metadata(tuned, name)["tuning"]
    assert metadata(later, name)["parameters"] == metadata(tuned, name)["parameters"]
    assert metadata(without, name)["tuning"] == "none: defaults"
    assert run(of, instance, ["boosted_candidate"]).success  # of which there is no study


def test_too_few_churners_for_folds_are_said_and_stop_nothing(made):
    of, _, instance = made
    result = run(of, instance, ["cross_validation"], {"cross_validation": {"config": {"folds": 100_000}}})
    assert result.success
    assert "use fewer folds" in metadata(result, "cross_validation")["missing"]


def test_tuning_from_the_command_line_reaches_every_candidate_that_is_made():
    assert tuning_config(0) == {}
    assert set(tuning_config(5)["ops"]) == set(CANDIDATES)
    assert tuning_config(5, ["boosted_candidate", "splits"]) == {
        "ops": {"boosted_candidate": {"config": {"trials": 5}}}
    }
    assert tuning_config(5, ["splits"]) == {}
