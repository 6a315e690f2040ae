"""Training again with labelled predictions: what is trained on, what is left out, and who waits for the gate."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dagster._core.instance.ref import InstanceRef

from churn_assets.contract.load import load_contract
from churn_assets.data.customers import MARKS
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.data.versions.store import TableStore
from churn_assets.definitions import build
from churn_assets.defs.policy import MODELS
from churn_assets.errors import DataBroken
from churn_assets.monitoring.open_window import WINDOW
from churn_assets.monitoring.performance.realized import usable_labels
from churn_assets.monitoring.windows import QUALITY_JSON, Window, window_folder, write_report
from churn_assets.promotion.holdout import holdout_path, read_holdout
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import POINTER, read_champion, require_champion
from churn_assets.promotion.records import Decision, DecisionInputs
from churn_assets.reproduction.record import read_record
from churn_assets.reproduction.retrain import reproduce
from churn_assets.scoring.bundle import read_card, read_reference
from churn_assets.settings import Settings
from churn_assets.storage.files import write_json
from churn_assets.synthetic.generate import generate
from churn_assets.training.split import read_split
from churn_assets_tests.alerting.reports import window_quality
from churn_assets_tests.data.log import labelled
from churn_assets_tests.defs.home import CANDIDATES, ROOT, SMALL, failure, metadata, run, settings
from churn_assets_tests.promotion.homes import AT, record_decision
from churn_assets_tests.strategies import TELECOM

NOWHERE = "http://127.0.0.1:9"
SOURCE = "generated://store?rows=1500&seed=7"
TRAINING = (
    *("raw_customers", "validated_customers", "splits", "column_audit", "customer_features"),
    *CANDIDATES,
    *("chosen_model", "leakage_audit", "registered_model"),
)
WITH_LABELS: dict[str, Any] = {"validation": {"config": {"with_labels": True}}}


def table_of(of: Settings, name: str) -> pa.Table:
    return pq.read_table(of.assets_dir / f"{name}.parquet")


def ids(table: pa.Table, mask: Any = None) -> set[str]:
    name = "customer_id" if "customer_id" in table.column_names else "custid"
    return set((table if mask is None else table.filter(mask))[name].to_pylist())


def predictions(of: Settings) -> pa.Table:
    """400 predictions with labels: new customers, and some of the table's in every role there is."""
    contract = load_contract(of.contract_path)
    repaired, _ = apply_repairs(generate(contract, rows=400, seed=98), contract)
    rows = validate(contract, repaired, source="made up").customers.to_pylist()
    frozen = sorted(read_holdout(of.holdout_dir, contract).customers(contract))
    others = sorted(ids(table_of(of, "validated_customers")) - set(frozen))
    labels = []
    for number, row in enumerate(rows):
        label = {"customer_id": f"new{number}", "churned": bool(row["churned"]), "part": "train"}
        label["as_of"] = dt.datetime(2025, 1, 1, 9) + dt.timedelta(days=number % 50)
        if number < 20:
            label["customer_id"] = frozen[number]
        elif number < 60:
            label |= {"customer_id": others[number], "part": "gate"}
        elif number < 100:
            label["customer_id"] = others[number]
        elif number < 130:
            label["contacted"] = True
        elif number < 150:
            label["label_state"] = "open"
        labels.append(label)
    return labelled(contract, rows, labels)


def asked(of: Settings) -> str:
    decision = Decision("retrain", "asked by a test", trigger="hand", occasion="now")
    record_decision(Ledger(of.ledger_path), decision, dt.datetime(2026, 11, 21, tzinfo=dt.UTC))
    return Ledger(of.ledger_path).requests("open")[0].key


def retrain(of: Settings, assets: Sequence[str], config: Any, tags: Any = None) -> dg.ExecuteInProcessResult:
    job = build(of).resolve_job_def("retrain")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in assets],
            run_config={"ops": {**config, **WITH_LABELS}},
            tags=tags,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    of = settings(tmp_path_factory.mktemp("home"), CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE=SOURCE)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, TRAINING)
    assert result.success
    files = {"holdout": frozen_file(of), "champion": of.home / POINTER}
    kept = {name: path.read_bytes() for name, path in files.items()}
    return of, kept, (table_of(of, "splits"), result)


def frozen_file(of: Settings) -> Any:
    return holdout_path(of.holdout_dir, load_contract(of.contract_path))


@pytest.fixture(scope="module")
def again(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    first, kept, _ = trained
    home = tmp_path_factory.mktemp("again") / "home"
    shutil.copytree(first.home, home)
    of = settings(home, CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE=SOURCE)
    pq.write_table(predictions(of), of.assets_dir / "labelled_predictions.parquet")
    key = asked(of)
    result = retrain(of, TRAINING, SMALL, {"churn/request": key})
    assert result.success, failure(result, "registered_model")
    return of, kept, key, result


def test_the_first_champions_test_customers_are_frozen(trained):
    of, _, (splits, result) = trained
    contract = load_contract(of.contract_path)
    holdout = read_holdout(of.holdout_dir, contract)
    assert holdout is not None
    split = read_split(splits, "random")
    assert holdout.rows.equals(table_of(of, "validated_customers").take(split.test))
    assert (holdout.version, holdout.generated) == (require_champion(of.home).version, True)
    assert holdout.version in metadata(result, "registered_model")["holdout"]
    assert Ledger(of.ledger_path).challengers() == []


def test_a_second_training_on_the_same_table_splits_and_scores_as_the_first(trained):
    of, kept, (splits, _) = trained
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, TRAINING[1:])
    assert result.success
    assert table_of(of, "splits").equals(splits)
    assert metadata(result, "registered_model")["bundle_version"] == require_champion(of.home).version
    assert frozen_file(of).read_bytes() == kept["holdout"]
    assert (of.home / POINTER).read_bytes() == kept["champion"]


def test_a_challenger_waits_for_the_gate_and_the_champion_stays(again):
    of, kept, key, result = again
    (challenger,) = Ledger(of.ledger_path).challengers()
    registered = json.loads((of.assets_dir / "registered_model.json").read_text())
    assert (challenger.version, challenger.status, challenger.request) == (registered["version"], "waiting_gate", key)
    assert registered["alias"] == "challenger"
    assert Ledger(of.ledger_path).requests("open") == []
    assert (of.home / POINTER).read_bytes() == kept["champion"]
    assert frozen_file(of).read_bytes() == kept["holdout"]
    assert metadata(result, "boosted_candidate")["tuning"] == "none of these data: as in the champion's training"
    card, before = (read_card(of.home / path) for path in (registered["bundle"], read_champion(of.home).bundle))
    assert card.candidates["boosted"].params == before.candidates["boosted"].params


def test_a_challenger_is_trained_again_from_what_was_kept_and_nothing_of_the_home_changes(again, tmp_path):
    of, _, _, _ = again
    (challenger,) = Ledger(of.ledger_path).challengers()
    record = read_record(of.bundles_dir, challenger.version)
    store = TableStore(of.tables_dir)
    kept = store.read(store.find(record.tables.validated))
    assert kept.equals(table_of(of, "validated_customers"), check_metadata=True)
    assert pc.sum(pc.equal(kept["row_source"], "feedback")).as_py() > 0
    before = {path: path.stat().st_mtime_ns for path in of.home.rglob("*") if path.is_file()}
    result = reproduce(of, record, tmp_path)
    assert (result.same, result.files, result.differences) == (True, (), ()), result
    assert {path: path.stat().st_mtime_ns for path in of.home.rglob("*") if path.is_file()} == before
    files = [bundle_files(folder / record.version) for folder in (tmp_path, of.bundles_dir)]
    assert files[0] == files[1]


def bundle_files(bundle: Any) -> dict[str, bytes]:
    """What the version of a bundle is made of."""
    paths = (path for path in bundle.rglob("*") if path.name not in ("provenance.json", "manifest.json"))
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def test_no_frozen_customer_and_none_of_the_gate_is_trained_on(again):
    of, _, _, _ = again
    splits, log = table_of(of, "splits"), predictions(of)
    holdout = ids(read_holdout(of.holdout_dir, load_contract(of.contract_path)).rows)
    trained_on = ids(splits, pc.is_in(splits["random"], value_set=pa.array(["train", "validation"])))
    gate = ids(log, pc.equal(log["part"], "gate"))
    treated = ids(log, pc.fill_null(log["contacted"], False))
    assert len(gate) == 40
    assert not trained_on & (holdout | gate | treated)
    assert ids(splits, pc.equal(splits["random"], "test")) == holdout
    assert ids(splits, pc.equal(splits["random"], "aside")) == gate
    assert {f"new{number}" for number in range(150, 400)} <= trained_on


def test_where_each_row_comes_from_is_recorded_and_shown(again):
    of, _, _, result = again
    customers, shown = table_of(of, "validated_customers"), metadata(result, "validated_customers")
    assert Counter(customers["row_source"].to_pylist()) == {"table": 1500, "feedback": 290}
    assert "| feedback | 290 |" in shown["rows_by_source"]
    assert "| used for training | 290 |" in shown["labelled_predictions"]
    assert "| kept for the gate | 40 |" in shown["labelled_predictions"]
    assert "| of customers in the frozen holdout | 20 |" in shown["labelled_predictions"]
    assert "290 labelled predictions" in shown["source"]
    apart = (of.reports_dir / "contacted_customers.csv").read_text().splitlines()
    assert len(apart) == 1 + 30
    bundle = of.home / json.loads((of.assets_dir / "chosen_model.json").read_text())["bundle"]
    reference = read_reference(bundle)
    assert not set(MARKS) & set(reference.column_names)
    assert any(name.startswith("new") for name in reference["custid"].to_pylist())


def test_pages_and_lists_are_of_the_table_alone(again):
    of, _, _, _ = again
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ["data_profile", "risk_list"])
    assert result.success
    assert metadata(result, "data_profile")["dagster/row_count"] == 1500
    assert not any(name.startswith("new") for name in table_of(of, "risk_list")["customer_id"].to_pylist())


def test_without_labels_a_retraining_is_a_training_and_says_so(tmp_path):
    of = settings(tmp_path, CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE="generated://store?rows=600&seed=3")
    result = retrain(of, ["raw_customers", "validated_customers", "splits"], {})
    assert result.success
    assert metadata(result, "validated_customers")["labelled_predictions"].startswith("none were made yet")
    assert set(table_of(of, "validated_customers")["row_source"].to_pylist()) == {"table"}


def test_no_model_learns_from_the_log_while_its_data_is_broken(tmp_path):
    of = settings(tmp_path, CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE="generated://store?rows=600&seed=3")
    inputs = DecisionInputs(broken="window 7: 'esent' is 0")
    record_decision(Ledger(of.ledger_path), Decision("investigate_data", "mend it", inputs=inputs), AT)
    result = retrain(of, ["raw_customers", "validated_customers"], {})
    assert not result.success
    assert f"{DataBroken.__name__}: window 7: 'esent' is 0; expected complete data" in failure(result, "validation")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(of, instance, ["raw_customers", "validated_customers"]).success  # the table alone


def test_predictions_of_broken_windows_are_neither_trained_on_nor_judged_by(again, tmp_path):
    first, *_ = again
    of = settings(tmp_path / "home", CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE=SOURCE)
    shutil.copytree(first.home, of.home)
    contract = load_contract(of.contract_path)
    fingerprint = contract.fingerprint
    log = table_of(of, "labelled_predictions").sort_by("seq")
    spans = {1: (0, 199, "ok"), 2: (200, 299, "broken"), 3: (300, 349, "insufficient")}
    for number, (first_row, last_row, status) in spans.items():
        ends = (log["seq"][first_row].as_py(), log["seq"][last_row].as_py())
        window = Window(number, fingerprint, *ends, 100, 100, 0, "2026-01-01", "2026-01-02", "customers")
        write_json(window_folder(of, window) / WINDOW, asdict(window))
        write_report(window_folder(of, window) / QUALITY_JSON, window_quality(number, status))
    usable, left_out = usable_labels(of, contract)
    assert left_out == 100
    assert usable is not None
    begins = [log["seq"][0].as_py()] * 200 + [log["seq"][300].as_py()] * 50 + [None] * 50
    assert usable.sort_by("seq")["window_seq"].to_pylist() == begins
    assert usable_labels(of, TELECOM)[1] == 0
    result = retrain(of, ["raw_customers", "validated_customers"], {})
    assert result.success
    shown = metadata(result, "validated_customers")
    assert shown["labelled_predictions_of_broken_data"] == "100, left out"
    assert "| used for training | 190 |" in shown["labelled_predictions"]


def test_tables_made_again_since_the_choice_are_not_frozen(trained, tmp_path):
    first, _, _ = trained
    home = tmp_path / "home"
    shutil.copytree(first.home, home)
    of = settings(home, CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE=SOURCE)
    frozen_file(of).unlink()
    path = of.assets_dir / "splits.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(of, instance, ["registered_model"])
    assert not result.success
    assert "chosen_model was made of other splits than there are now; make it again" in failure(
        result, "registered_model"
    )
    assert not frozen_file(of).exists()


def test_the_job_asks_for_labels_and_makes_what_training_makes(tmp_path):
    defs = build(settings(tmp_path))
    train, job = (defs.resolve_job_def(name) for name in ("train", "retrain"))
    assert job.run_config == {"ops": WITH_LABELS}
    assert job.asset_layer.selected_asset_keys == train.asset_layer.selected_asset_keys
    assert dg.AssetKey("labelled_predictions") not in job.asset_layer.selected_asset_keys


def test_one_run_writes_models_and_one_the_log_while_others_go_beside_them(tmp_path):
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as instance:
        limits = instance.get_concurrency_config().run_queue_config
    assert {(limit["key"], limit["limit"]) for limit in limits.tag_concurrency_limits} == {
        ("churn/models", 1),
        ("churn/log", 1),
    }
    assert limits.max_concurrent_runs > 2
    defs = build(settings(tmp_path))
    for name in ("train", "retrain", "score"):
        assert MODELS.items() <= defs.resolve_job_def(name).tags.items()
