"""Broken data is reported column by column; data that only drifted is not called broken."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import statistics

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.monitoring import findings, profile
from churn_assets.monitoring.data_quality import Traffic, check_traffic, report_quality
from churn_assets_tests.monitoring.logs import NOW, Log, contract_of, make_home, set_column
from churn_assets_tests.scoring.tiny import AS_OF

CONTRACT = contract_of()


def newest(log, contract=CONTRACT):
    return report_quality(log.settings, contract, NOW).windows[-1]


def share_of(values, share, to):
    changed = values.copy()
    changed[: int(share * len(values))] = to
    return changed


def nobody(values):
    return [None] * len(values)


# name of the case -> column, its new values, the check that finds it, part of its message
BROKEN = {
    "all missing": ("spent", nobody, "all_missing", "is empty, expected at most"),
    "missing": ("spent", lambda v: share_of(v, 0.3, None), "missing", "missing for 3"),
    "category all missing": ("city", nobody, "all_missing", "'city' is empty"),
    "outside": (
        "spent",
        lambda v: [None if x is None else 100 * x for x in v],
        "outside_range",
        "is the unit the same?",
    ),
    "infinite": ("spent", lambda v: share_of(v, 0.06, float("inf")), "infinite", "24 infinite values"),
    "new category": ("city", lambda v: share_of(v, 0.1, "HYD"), "unknown_category", "most often 'HYD'"),
    "constant number": ("sent", lambda v: v * 0, "constant", "'sent' is 0 for everybody"),
    "constant category": ("city", lambda v: share_of(v, 1, "BLR"), "constant", "'city' is BLR for everybody"),
    "constant boolean": ("paperless", lambda v: share_of(v, 1, True), "constant", "'paperless' is true for everybody"),
    "spike": ("sent", lambda v: share_of(v, 0.4, 0), "spike", "'sent' is 0 for 4"),
}


@pytest.mark.parametrize(("column", "values", "check", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_column_is_found_and_described(log, column, values, check, message):
    log.add(400, change=set_column(column, values))
    result = newest(log)
    assert result.status == "broken"
    assert [(f.column, f.check) for f in result.findings if f.check != "unit_change"] == [(column, check)]
    assert message in result.findings[0].message
    assert message in result.message


def test_a_unit_is_named_beside_the_values_outside(log):
    log.add(400, change=set_column("spent", lambda v: [None if x is None else 100 * x for x in v]))
    outside, unit = newest(log).findings
    assert (outside.check, unit.check, unit.column) == ("outside_range", "unit_change", "spent")
    assert "'spent' is 100 times as large as in training for about 100% of the customers" in unit.message


def test_numbers_outside_are_drift_if_everybody_has_grown_by_one_factor(log):
    log.add(400, change=set_column("sent", lambda v: [int(1.6 * x) for x in v]))
    result = newest(log)
    (finding,) = [f for f in result.findings if f.check == "outside_range"]
    assert not finding.blocks
    assert "everybody's are about 1." in finding.message
    assert result.status == "ok"


def test_whole_data_is_ok_and_blocks_nothing(log):
    log.add(400)
    report = report_quality(log.settings, CONTRACT, NOW)
    assert report.status == "ok"
    assert report.blocks is False
    assert report.windows[-1].findings == ()


def test_a_moderate_shift_is_not_called_broken(log):
    log.add(400, change=set_column("sent", lambda v: [int(1.25 * x) for x in v]))
    assert newest(log).status == "ok"


def test_one_broken_column_hides_no_other(log):
    log.sql("ALTER TABLE predictions DROP x_city")
    change = [set_column("spent", nobody), set_column("sent", lambda v: v * 0)]
    log.add(400, change=lambda t: change[1](change[0](t)).drop_columns(["city"]))
    result = {f.column: f.check for f in newest(log).findings}
    assert result == {"city": "missing_column", "spent": "all_missing", "sent": "constant"}


def test_cells_of_another_type_are_counted_and_the_others_still_checked(log):
    log.sql("ALTER TABLE predictions ALTER x_spent TYPE VARCHAR")
    log.add(400)
    log.sql("UPDATE predictions SET x_spent = 'a lot' WHERE seq < 40")
    (result,) = newest(log).findings
    assert (result.column, result.check) == ("spent", "unreadable")
    assert "40 unreadable values, expected a finite number" in result.message


@pytest.mark.parametrize(
    ("column", "sql_type"), [("sent", "BOOLEAN"), ("created", "DOUBLE"), ("paperless", "VARCHAR"), ("city", "DOUBLE")]
)
def test_a_table_of_other_types_hides_no_column(log, column, sql_type):
    log.sql(f"ALTER TABLE predictions DROP x_{column}")
    log.sql(f"ALTER TABLE predictions ADD x_{column} {sql_type}")
    log.add(400, change=lambda t: set_column("spent", nobody)(t).drop_columns([column]))
    log.sql(f"UPDATE predictions SET x_{column} = CAST(1 AS {sql_type})")
    result = newest(log).findings
    assert {column, "spent"} <= {finding.column for finding in result}
    assert [finding.check for finding in result if finding.column == "spent"] == ["all_missing"]


def test_one_of_few_known_numbers_that_becomes_frequent_is_drift_and_not_broken(log, monkeypatch):
    log.add(400, change=set_column("sent", lambda v: share_of(v, 0.4, statistics.mode(v))))
    monkeypatch.setattr(findings, "FEW_VALUES", 10_000)  # as if the column had that few
    assert newest(log).status == "ok"


def test_a_number_that_is_frequent_because_customers_changed_is_drift_and_not_broken(tmp_path):
    def many_join_now(table):
        day = table["created"].to_numpy().astype("datetime64[D]")
        new = np.arange(len(day)) < 0.4 * len(day)
        day = np.where(new, day.max() - np.arange(len(day)) % 40, day)
        for name in ("created", "lastorder"):
            table = table.set_column(table.column_names.index(name), name, pa.array(day, pa.date32()))
        return set_column("sent", lambda v: [0 if is_new else x for is_new, x in zip(new, v, strict=True)])(table)

    log = Log(make_home(tmp_path, as_of=AS_OF))
    log.add(400, change=many_join_now)
    result = newest(log)
    (spike,) = [finding for finding in result.findings if finding.check == "spike"]
    assert (result.status, spike.column, spike.blocks) == ("ok", "sent", False)
    assert spike.message.endswith("Yes: the customers' other values have changed with it, which is drift")


def test_a_number_that_training_never_had_is_a_spike_also_among_few(log, monkeypatch):
    log.add(400, change=set_column("sent", lambda v: share_of(v, 0.4, 9999)))
    monkeypatch.setattr(findings, "FEW_VALUES", 10_000)
    assert "spike" in [f.check for f in newest(log).findings]


def test_a_few_odd_values_are_reported_and_stop_nothing(log):
    log.add(400, change=set_column("city", lambda v: share_of(v, 0.01, "HYD")))
    result = newest(log)
    assert result.status == "ok"
    assert [(f.check, f.blocks) for f in result.findings] == [("unknown_category", False)]


def test_a_category_full_of_ids_is_broken_however_many_there_are(log):
    log.add(400, change=set_column("city", lambda v: [*v[:280], *(f"id {n}" for n in range(120))]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "MOST_LEVELS", 5)
        result = newest(log)
    assert result.status == "broken"
    assert [(f.check, f.actual) for f in result.findings] == [("unknown_category", "30.0%")]


def test_a_column_whose_name_a_newer_contract_has_taken_is_read_where_its_values_are(log):
    log.add(400)
    log.sql("ALTER TABLE predictions RENAME x_city TO x_city__varchar")
    log.sql("ALTER TABLE predictions ADD x_city DOUBLE")
    assert newest(log).findings == ()


def test_a_window_whose_rows_the_log_has_forgotten_is_not_called_whole(log):
    log.add(400)
    newest(log)
    for name in ("quality.json", "drift.json"):
        for path in log.settings.monitoring_dir.rglob(name):
            path.unlink()
    log.sql("DELETE FROM predictions WHERE seq >= 100")
    result = newest(log)
    assert result.status == "insufficient"
    assert "100 customers are too few" in result.message


def test_a_silent_column_is_reported_and_stops_nothing(log):
    log.add(400, change=set_column("lastorder", nobody))
    result = newest(log)
    assert result.status == "ok"
    assert [(f.column, f.blocks) for f in result.findings] == [("lastorder", False)]


def test_below_the_floor_nothing_is_ok(log):
    log.add(150)
    few = contract_of("window = 150\nfloor = 150")
    limits = dataclasses.replace(few, monitoring=dataclasses.replace(few.monitoring, floor=151, window_days=0))
    report = report_quality(log.settings, limits, NOW)
    assert report.status == "insufficient"
    assert "150 customers are too few, expected at least 151" in report.message


def test_an_old_log_is_stale_and_blocks(log):
    log.add(400)
    report = report_quality(log.settings, CONTRACT, NOW + dt.timedelta(days=4))
    assert report.stale
    assert report.blocks
    assert "its newest prediction is 108 hours old" in report.message


def test_a_reference_of_another_contract_is_reported_and_breaks_nothing(tmp_path):
    log = Log(make_home(tmp_path / "home", fingerprint="e" * 64))
    log.add(400)
    report = report_quality(log.settings, CONTRACT, NOW)
    assert report.status == "unknown"
    assert "its reference rows were made under contract eeeeeeeeeeee" in report.message


def test_why_there_is_no_reference_is_reported_once(tmp_path):
    log = Log(make_home(tmp_path / "home", fingerprint="e" * 64))
    log.add(400)
    assert report_quality(log.settings, CONTRACT, NOW).message.count("no reference to compare with") == 1


def test_a_column_that_the_reference_lacks_is_reported(tmp_path):
    log = Log(make_home(tmp_path / "home", change=lambda t: t.drop_columns(["spent"])))
    log.add(400)
    result = newest(log)
    assert result.status == "ok"
    assert [(f.column, f.check) for f in result.findings] == [("spent", "not_in_reference")]


def test_no_champion_and_no_log_are_reported(tmp_path, made):
    empty = dataclasses.replace(made, home=tmp_path / "nothing")
    assert report_quality(empty, CONTRACT, NOW).message.startswith("no champion yet")
    assert report_quality(made, CONTRACT, NOW).message.startswith("no predictions yet")
    assert not (tmp_path / "nothing").exists()


def test_a_log_without_rows_is_an_open_window(log):
    report = report_quality(log.settings, CONTRACT, NOW)
    assert (report.status, report.windows) == ("insufficient", ())
    assert report.message.startswith("the open window has 0 customers")


def test_refused_requests_are_counted_by_cause(log):
    log.add(400)
    log.sql(
        "INSERT INTO rejections VALUES (0, '2026-11-01 00:01:00', '2026-11-01 00:02:00', 'w', 'validation', 90, 's'),"
        "(1, '2026-12-01 00:01:00', '2026-12-01 00:02:00', 'w', 'timeout', 500, 's')"
    )
    (result,) = newest(log).findings
    assert (result.check, result.cause) == ("refused", "validation")
    assert "18.4% of the requests were refused for 'validation', 0.0% before" in result.message


def test_refused_rows_are_reported_by_column(log):
    log.add(400)
    log.sql("INSERT INTO rejected_rows VALUES (0, '2026-11-01 00:01:00', '2026-11-01 00:02:00', 'w', 'spent', 90, 's')")
    (result,) = newest(log).findings
    assert (result.check, result.cause, result.blocks) == ("refused", "spent", True)
    assert "90 rows (18.4%) were refused for 'spent', 0.0% before" in result.message


def test_a_log_published_before_rows_were_counted_is_read(log):
    log.add(400)
    log.sql("DROP TABLE rejected_rows")
    assert newest(log).traffic.refused_rows == {}


USUAL = Traffic(1000, 900, 1000.0, 1.0, 0.01, 0, {"validation": 10})


@pytest.mark.parametrize(
    ("change", "check", "blocks"),
    [
        ({"rows_a_day": 99.0}, "volume", True),
        ({"rows_a_day": 10_001.0}, "volume", True),
        ({"rows_a_day": 9_999.0}, None, None),
        ({"customers": 90}, "duplicates", True),
        ({"customers": 200}, None, None),
        ({"largest_customer_share": 0.21}, "one_customer", True),
        ({"longest_gap_hours": 49.0}, "gap", False),
        ({"rows_without_id": 3}, "no_id", False),
        ({"refused": {"validation": 150}}, "refused", True),
        ({"refused": {"validation": 60}}, None, None),
        ({"refused": {"contract": 150}}, "refused", True),
        ({"refused": {"json": 150}}, "refused", True),
        ({"refused": {"path": 9000}}, "refused", False),
        ({"refused": {"key": 9000}}, "refused", False),
        ({"refused": {"busy": 150}}, "refused", False),
        ({"refused": {"path": 9000, "validation": 60}}, "refused", False),
        ({"refused_rows": {"sent": 4}}, None, None),
        ({"refused_rows": {"sent": 50}}, "refused", False),
        ({"refused_rows": {"sent": 150}}, "refused", True),
    ],
)
def test_traffic_is_compared_with_what_was_usual(change, check, blocks):
    result = list(check_traffic(dataclasses.replace(USUAL, **change), [USUAL] * 3, CONTRACT.monitoring))
    assert [(f.check, f.blocks) for f in result] == ([(check, blocks)] if check else [])


def test_the_first_window_has_no_usual_volume():
    assert list(check_traffic(USUAL, [], CONTRACT.monitoring)) == []


def test_the_same_customers_five_times_are_no_finding(log):
    for _ in range(5):
        log.add(300)
    log.add(100, seed=6)
    result = newest(log)
    assert (result.customers, result.rows, result.status, result.findings) == (400, 1600, "ok", ())


def test_the_order_of_the_rows_changes_nothing(log, made, tmp_path):
    log.add(400, change=set_column("sent", lambda v: share_of(v, 0.4, 0)))
    shutil.copytree(made.home, tmp_path / "other")
    other = Log(dataclasses.replace(made, home=tmp_path / "other"))
    other.add(400, change=set_column("sent", lambda v: share_of(v, 0.4, 0)))
    order = np.random.default_rng(0).permutation(400)
    other.sql("CREATE TABLE places AS SELECT unnest(?::BIGINT[]) AS place, unnest(range(400)) AS old", [order.tolist()])
    other.sql("CREATE TABLE turned AS SELECT p.* REPLACE (place AS seq) FROM predictions p JOIN places ON seq = old")
    other.sql("DELETE FROM predictions")
    other.sql("INSERT INTO predictions BY NAME SELECT * FROM turned")
    assert newest(other) == newest(log)


def test_ids_that_are_placeholders_are_found(log):
    log.add(400)
    log.add(200, seed=6, change=lambda t: t.set_column(0, "id", pa.array(["unknown"] * 200)))
    log.add(399, seed=7)
    result = newest(log)
    assert result.status == "broken"
    assert "one customer id has 33.4% of the predictions; is it a placeholder?" in result.message
