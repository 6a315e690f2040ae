"""Windows through the whole drift pass: what alarms, what is kept, and what stands when something is missing."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from churn_assets.contract.model import Kind
from churn_assets.errors import AcceptanceRefused
from churn_assets.monitoring import profile
from churn_assets.monitoring.data_quality import report_quality
from churn_assets.monitoring.drift import multivariate
from churn_assets.monitoring.drift.evidently import Comparison, EvidentlyDrift
from churn_assets.monitoring.drift.mmd import kernel_test
from churn_assets.monitoring.drift.multivariate import DomainClassifier, compare_all_columns, find_outliers
from churn_assets.monitoring.drift.report import conclude, report_drift
from churn_assets.monitoring.drift.univariate import ColumnDrift
from churn_assets.monitoring.profile import SCORE, MonitoredModel, compute_profile, load_reference
from churn_assets.monitoring.windows import Acceptance, accept_window, to_json
from churn_assets_tests.monitoring.logs import NOW, Log, contract_of, make_home, more, scored, set_column
from churn_assets_tests.scoring.tiny import customers

CONTRACT = contract_of()
ACCEPTANCE = Acceptance("Ana", "the mail system was off", "2026-11-02T10:00:00+00:00")
KINDS = {"sent": Kind.INTEGER, "spent": Kind.NUMBER, "paperless": Kind.BOOLEAN, "city": Kind.CATEGORY}


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """What the classifier finds has tests of its own."""
    monkeypatch.setattr(multivariate, "_ROUNDS", 4)


def no_evidently(reference, current, kinds, ours, run, page):
    return Comparison(EvidentlyDrift("not asked"))


def drifted(log, contract=CONTRACT, **how):
    return report_drift(log.settings, contract, **({"evidently": no_evidently} | how))


def test_two_windows_with_the_same_drift_ask_for_a_retraining(log):
    log.add(400)
    log.add(400, seed=6, change=set_column("sent", more))
    first = drifted(log)
    assert (first.status, first.drifted, first.in_a_row) == ("drift", ("sent",), ())
    log.add(400, seed=7, change=set_column("sent", more))
    second = drifted(log)
    assert [w.status for w in second.windows] == ["stable", "drift", "drift"]
    assert second.in_a_row == ("sent",)
    assert "sent drifted in 2 windows in a row" in second.message


def test_drift_in_broken_data_proves_nothing(log):
    for seed in (5, 6):
        log.add(400, seed=seed, change=set_column("sent", lambda v: v * 0))
    report = drifted(log)
    assert report.status == "drift"
    assert report.in_a_row == ()
    assert "but the data is broken, so this counts for nothing" in report.message


def test_a_window_that_a_person_accepts_counts(log):
    for seed in (5, 6):
        log.add(400, seed=seed, change=set_column("sent", lambda v: v * 0))
    before = drifted(log)
    assert {window.data for window in before.windows} == {"broken"}
    announced = []
    for window in before.windows:
        accept_window(
            log.settings, CONTRACT.fingerprint, window.window, ACCEPTANCE, lambda: announced.append("announced")
        )
    assert len(announced) == 2
    quality = report_quality(log.settings, CONTRACT, NOW)
    assert (quality.status, quality.blocks) == ("ok", False)
    assert quality.message.startswith("window 2: the data is broken")
    assert quality.message.endswith("; Ana accepted it on 2026-11-02: the mail system was off")
    after = drifted(log)
    assert ("sent" in after.in_a_row, {window.data for window in after.windows}) == (True, {"ok"})
    assert "counts for nothing" not in after.message


@pytest.mark.parametrize(
    ("number", "acceptance", "message"),
    [
        (1, ACCEPTANCE, "window 1 is ok, expected a broken one"),
        (7, ACCEPTANCE, "window 7 has no quality report, expected one of: 1"),
        (1, dataclasses.replace(ACCEPTANCE, by=" "), "expected who accepts the window and why"),
    ],
)
def test_nothing_else_can_be_accepted(log, number, acceptance, message):
    log.add(400)
    report_quality(log.settings, CONTRACT, NOW)

    def never():
        raise AssertionError("nothing is accepted")

    with pytest.raises(AcceptanceRefused, match=message):
        accept_window(log.settings, CONTRACT.fingerprint, number, acceptance, never)


def test_a_window_is_compared_once_and_several_at_once_as_one_by_one(log, made, tmp_path):
    shutil.copytree(made.home, tmp_path / "other")
    other = Log(dataclasses.replace(made, home=tmp_path / "other"))
    for seed in (5, 6, 7):
        for one in (log, other):
            one.add(400, seed=seed)
        drifted(log)
    at_once = drifted(other)
    assert _without_cost(at_once) == _without_cost(drifted(log))
    files = {path: path.stat().st_mtime_ns for path in other.settings.monitoring_dir.rglob("*") if path.is_file()}
    assert {path.name for path in files} == {"window.json", "quality.json", "drift.json", "drift.md"}
    drifted(other)
    report_quality(other.settings, CONTRACT, NOW)
    assert files == {p: p.stat().st_mtime_ns for p in other.settings.monitoring_dir.rglob("*") if p.is_file()}


def _without_cost(report):
    return json.loads(json.dumps(to_json(report)), object_hook=_costless)


def _costless(result):
    return {
        k: v for k, v in result.items() if k not in ("cpu_s", "us_a_row") and (k != "message" or "us a row" not in v)
    }


def test_the_same_customers_five_times_do_not_alarm(log):
    for _ in range(5):
        log.add(300)
    log.add(100, seed=6)
    assert drifted(log).status == "stable"


def test_only_the_last_score_of_a_customer_counts(log):
    log.add(399, change=set_column("sent", more))
    log.add(399)
    log.add(1, seed=6)
    assert drifted(log).status == "stable"


def test_a_higher_score_alone_is_found(log):
    table, scores = scored(400, 5)
    log.append(table, np.clip(scores.probability + 0.2, 0, 1))
    assert drifted(log).drifted[0] == SCORE


def test_scores_of_another_model_are_left_out_of_the_score_and_reported(log):
    log.add(300)
    table, _ = scored(100, 6)
    log.append(table, np.ones(100), model_version="another")
    result = drifted(log)
    assert result.status == "stable"
    assert result.windows[0].scored_by_others == 100
    assert "100 customers were scored by another model" in _markdown(log)


def test_a_sample_without_a_row_of_the_champion_is_no_failure(log, monkeypatch):
    monkeypatch.setattr(profile, "SAMPLE_ROWS", 399)
    log.add(400, model_version="another")
    last = "SELECT seq FROM predictions ORDER BY hash('c:' || customer_id || '#') DESC LIMIT 1"
    log.sql(f"UPDATE predictions SET model_version = ? WHERE seq = ({last})", [log.version])
    score = drifted(log).windows[0].score
    assert (score.rows, score.mean) == (1, None)


def test_below_the_floor_nothing_is_stable(log):
    few = dataclasses.replace(CONTRACT, monitoring=dataclasses.replace(CONTRACT.monitoring, floor=401))
    log.add(400)
    report = drifted(log, few)
    assert report.status == "insufficient"
    assert "too few" in report.message


def test_a_reference_of_another_contract_leaves_the_answer_unknown(tmp_path):
    log = Log(make_home(tmp_path / "home", fingerprint="e" * 64))
    log.add(400)
    report = drifted(log)
    assert report.status == "unknown"
    assert "eeeeeeeeeeee" in report.message


def test_silent_columns_and_dates_never_alarm(log):
    silent = dataclasses.replace(CONTRACT, monitoring=dataclasses.replace(CONTRACT.monitoring, silent=("sent",)))
    log.add(400, change=set_column("sent", more))
    report = drifted(log, silent)
    assert report.status == "stable"
    assert {"sent", "created"} & {column.column for column in report.windows[0].columns} == set()


def test_broken_columns_hide_no_other_and_are_named(log):
    log.sql("ALTER TABLE predictions DROP x_city")
    gone = set_column("spent", lambda v: [None] * len(v))
    log.add(400, change=lambda t: gone(set_column("sent", more)(t)).drop_columns(["city"]))
    report = report_drift(log.settings, CONTRACT)
    assert report.drifted == ("sent",)
    messages = {column.column: column.message for column in report.windows[0].columns}
    assert messages["city"] == "the log has no such column"
    assert messages["spent"] == "the window has 0 values, expected at least 100"
    assert report.windows[0].page.file == "drift.html"
    assert report.windows[0].evidently.left_out == {
        "city": "the window has no such column",
        "spent": "the window has no value of it",
    }


def test_no_champion_no_log_and_an_empty_window_are_reported(tmp_path, made, log):
    empty = dataclasses.replace(made, home=tmp_path / "nothing")
    assert report_drift(empty, CONTRACT).message.startswith("no champion yet")
    assert report_drift(made, CONTRACT).message.startswith("no predictions yet")
    assert drifted(log).message.startswith("the open window has 0 customers")
    assert drifted(log).status == "insufficient"


def test_markdown_tells_every_measure_of_every_column(log):
    log.add(400)
    drifted(log)
    text = _markdown(log)
    assert "**stable**" in text
    for name in ("psi", "ks", "chi_square", "wasserstein", "jensen_shannon", "n/a", "sent", "city", SCORE):
        assert name in text
    assert "- outliers: " in text
    assert "- multivariate: " in text
    assert "- kernel: " in text


def _markdown(log) -> str:
    return next(log.settings.monitoring_dir.rglob("drift.md")).read_text().replace("\\", "")  # escapes of Markdown


def test_evidently_is_imported_by_one_module_and_only_when_it_draws():
    code = (
        "import sys, pkgutil, importlib, churn_assets.monitoring as m\n"
        "for module in pkgutil.walk_packages(m.__path__, m.__name__ + '.'): importlib.import_module(module.name)\n"
        "print([n for n in ('evidently', 'pandas', 'sklearn', 'scipy', 'duckdb', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- all columns together, and one row alone ---------------------------------------------------------


@pytest.fixture(scope="module")
def reference(made):
    return load_reference(next(made.bundles_dir.iterdir()), CONTRACT)


def window_of(change=lambda table: table, rows=600, seed=9):
    table = change(customers(rows, seed))
    result = {}
    for name, kind in KINDS.items():
        column = table[name]
        result[name] = column if kind is Kind.CATEGORY else np.array(column.cast(pa.float64()).to_pylist(), float)
    return pa.table(result)


def test_a_classifier_tells_columns_apart_that_go_together_otherwise(reference):
    same = compare_all_columns(reference.profile.sample, window_of(), KINDS)
    assert same.low < 0.5 < same.high
    assert "cannot be told apart" in same.message
    assert (same.drifts, same.columns) == (False, ())
    before = pa.table({"a": np.tile([0.0, 1.0], 300), "b": np.tile([0.0, 1.0], 300)})
    turned = pa.table({"a": np.tile([0.0, 1.0], 300), "b": np.tile([1.0, 0.0], 300)})
    apart = compare_all_columns(before, turned, {"a": Kind.NUMBER, "b": Kind.NUMBER})
    assert apart.low > 0.95
    assert apart.drifts
    assert set(apart.columns) == {"a", "b"}
    assert apart.cpu_s > 0


def test_the_column_that_tells_the_sides_apart_is_named(reference):
    apart = compare_all_columns(reference.profile.sample, window_of(set_column("sent", lambda v: 3 * v)), KINDS)
    assert apart.columns[0] == "sent"
    assert "most by sent" in apart.message


def test_columns_that_only_together_drift_are_drift():
    turned = dataclasses.replace(DomainClassifier("apart", 0.9, 0.88, 0.92, drifts=True), columns=("sent", "spent"))
    stable = [ColumnDrift(column="sent", kind="integer", status="stable", message="")]
    model = MonitoredModel("v", CONTRACT.fingerprint, CONTRACT, CONTRACT.monitoring, None)
    status, message, drifted = conclude(model, 400, stable, turned)
    assert (status, drifted) == ("drift", ("sent", "spent"))
    assert "all together" in message
    assert conclude(model, 400, stable, dataclasses.replace(turned, drifts=False))[0] == "stable"


def test_the_kernel_test_has_a_permutation_p_value(reference):
    same = [
        kernel_test(reference.profile.sample, window_of(seed=seed), KINDS, rows=200, permutations=99)
        for seed in range(5, 9)
    ]
    assert max(result.p_value for result in same) > 0.05
    assert min(result.p_value for result in same) > 0.01
    apart = kernel_test(
        reference.profile.sample, window_of(set_column("sent", lambda v: 3 * v)), KINDS, permutations=99
    )
    assert apart.p_value == pytest.approx(0.01)  # the least that 99 permutations can give
    assert apart.mmd2 > max(result.mmd2 for result in same)
    assert "differ by the kernel test" in apart.message
    assert kernel_test(reference.profile.sample, window_of(rows=50), KINDS).p_value is None


def test_too_few_rows_are_not_told_apart(reference):
    result = compare_all_columns(reference.profile.sample, window_of(rows=50), KINDS)
    assert result.roc_auc is None
    assert "not computed" in result.message


@pytest.mark.parametrize("method", ["range", "mahalanobis", "isolation_forest"])
def test_outliers_say_what_they_cost_and_catch(reference, method):
    calm = find_outliers(reference, window_of(), KINDS, method)
    wrong = find_outliers(reference, window_of(set_column("sent", lambda v: 100 * v)), KINDS, method)
    assert calm.share < 0.02
    assert wrong.share > (0.5 if method != "isolation_forest" else calm.share)
    assert 0 <= calm.reference_share < 0.01
    assert 0 < calm.caught_share <= 1
    assert f"by '{method}'" in calm.message
    assert calm.us_a_row >= 0


@pytest.mark.parametrize("method", ["range", "mahalanobis", "isolation_forest"])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e308, -1e308, 1e39])
def test_numbers_of_any_size_are_outliers_by_every_method(reference, method, value):
    table = window_of()
    place = table.column_names.index("spent")
    huge = table.set_column(place, "spent", pa.array(np.full(table.num_rows, value)))
    assert find_outliers(reference, huge, KINDS, method).share == 1.0


def test_outliers_without_a_number_are_not_computed(reference):
    assert find_outliers(reference, pa.table({"city": ["BLR"]}), KINDS, "range").share is None


@hypothesis_settings(max_examples=8)
@given(st.permutations(range(120)))
def test_an_observation_does_not_depend_on_the_order_of_the_rows(order):
    import duckdb

    table = customers(120, 3)
    relation = "(SELECT id AS who, 0.5 AS score, true AS decision, * FROM t)"
    with duckdb.connect() as connection:
        result = []
        for rows in (table, table.take(pa.array(order))):
            connection.register("t", rows)
            result.append(compute_profile(connection, relation, CONTRACT))
            connection.unregister("t")
    assert result[0].columns == result[1].columns
    assert result[0].sample.to_pydict().keys() == result[1].sample.to_pydict().keys()
    assert str(result[0].sample.to_pylist()) == str(result[1].sample.to_pylist())
