"""Which reports give cause to tell a person, and which end what was told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.alerting.rules import Findings, alerts_of, waiting_key

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


def window(number, status, **more):
    return {"window": number, "status": status, **more}


def told(findings: Findings) -> tuple[set[str], set[str]]:
    return {alert.key for alert in findings.alerts}, set(findings.over)


SO = {"dropped": True, "status": "ok", "words": "labelled PR-AUC has fallen"}
BROKEN = {"column": "esent", "what": "spike", "words": "'esent' is 0 in 100 % of rows, usually in 3 %"}
GAP = {"column": "(traffic)", "what": "gap", "words": "no prediction for 50 hours", "blocks": False}
STALE = {"stale": True, "words": "the log is stale: its newest prediction is 60 hours old"}
FRESH = {"stale": False, "words": ""}


@pytest.mark.parametrize(
    ("quality", "raised", "over"),
    [
        (None, set(), set()),
        ({}, set(), set()),
        ({"windows": []}, set(), set()),
        ({"windows": [window(1, "insufficient", findings=[BROKEN])]}, set(), set()),
        ({"windows": [window(1, "broken", findings=[BROKEN, GAP])]}, {"data_quality"}, set()),
        (
            {"windows": [window(1, "broken", findings=[BROKEN]), window(2, "ok", findings=[GAP])]},
            set(),
            {"data_quality"},
        ),
        ({"windows": [window(1, "ok"), window(2, "broken", findings=[BROKEN])]}, {"data_quality"}, set()),
        (
            {"windows": [window(1, "broken", findings=[BROKEN]), window(2, "insufficient")]},
            {"data_quality"},
            set(),
        ),
        ({"log": STALE, "windows": []}, {"stale_log"}, set()),
        ({"log": STALE, "windows": [window(1, "ok")]}, {"stale_log"}, {"data_quality"}),
        ({"log": FRESH, "windows": []}, set(), {"stale_log"}),
    ],
)
def test_the_newest_window_that_concludes_something_decides_about_the_data(quality, raised, over):
    assert told(alerts_of(quality)) == (raised, over)


def test_broken_data_is_told_with_what_broke_and_not_with_what_did_not():
    (alert,) = alerts_of({"windows": [window(4, "broken", findings=[GAP, BROKEN])]}).alerts
    assert "window 4: 'esent' is 0 in 100 % of rows" in alert.words
    assert "50 hours" not in alert.words
    assert (alert.kind, alert.severity) == ("data_quality", "error")


def test_of_many_findings_the_first_are_told_and_the_others_counted():
    many = [{"column": f"c{n}", "what": "missing", "words": f"c{n} is missing"} for n in range(8)]
    (alert,) = alerts_of({"windows": [window(1, "broken", findings=many)]}).alerts
    assert "c4 is missing; and 3 more" in alert.words


def test_a_decision_to_look_at_the_data_is_told_where_the_quality_report_is_silent():
    decision = {"kind": "investigate_data", "words": "the log is unreadable"}
    assert told(alerts_of(decision=decision)) == ({"data_quality"}, set())
    assert told(alerts_of({"windows": [window(1, "ok")]}, decision=decision)) == (set(), {"data_quality"})
    assert told(alerts_of({"stale": True, "log": STALE, "windows": []}, decision=decision)) == ({"stale_log"}, set())
    assert told(alerts_of(decision={"kind": "retrain", "words": "drift"})) == (set(), set())


@pytest.mark.parametrize(
    ("windows", "raised", "over"),
    [
        ([window(1, "drift", drifted=["visits"])], {"drift"}, set()),
        ([window(1, "drift", drifted=["visits"]), window(2, "unknown")], {"drift"}, set()),
        ([window(1, "drift", drifted=["visits"]), window(2, "stable", drifted=[])], set(), {"drift"}),
        ([window(1, "insufficient")], set(), set()),
    ],
)
def test_the_newest_window_that_concludes_something_decides_about_drift(windows, raised, over):
    assert told(alerts_of(drift={"windows": windows})) == (raised, over)


def test_drift_in_broken_data_is_an_alert_about_the_data_alone():
    quality = {"windows": [window(3, "broken", findings=[BROKEN])]}
    drift = {"windows": [window(3, "drift", drifted=["esent"])]}
    assert told(alerts_of(quality, drift)) == ({"data_quality"}, set())


def test_drift_says_its_columns_and_how_many_windows_in_a_row():
    windows = [window(1, "stable"), *(window(n, "drift", drifted=["visits", "score"]) for n in (2, 3))]
    (alert,) = alerts_of(drift={"windows": windows}).alerts
    assert (
        "Window 3 differs from the training data in: visits, score. It is the 2nd such window in a row." in alert.words
    )


def test_a_row_of_drift_is_counted_as_the_decision_counts_it():
    windows = [
        window(1, "drift", drifted=["visits"], model_version="old"),
        window(2, "drift", drifted=["visits"], model_version="new"),
        window(3, "drift", drifted=["visits"], model_version="new", data="broken"),
        window(4, "drift", drifted=["visits"], model_version="new"),
    ]
    (alert,) = alerts_of(drift={"windows": windows}).alerts
    assert "It is the 2nd such window in a row." in alert.words


@pytest.mark.parametrize(
    ("performance", "raised", "over"),
    [
        ({"pr_auc_dropped": True, "words": ["a", "b"], "fall": SO}, {"performance_drop"}, set()),
        ({"pr_auc_dropped": False, "fall": {**SO, "dropped": False, "status": "insufficient"}}, set(), set()),
        ({"pr_auc_dropped": False, "fall": {**SO, "dropped": False, "status": "unknown"}}, set(), set()),
        ({"pr_auc_dropped": False, "fall": {**SO, "dropped": False}}, set(), {"performance_drop"}),
        ({"windows": []}, set(), set()),
    ],
)
def test_a_fall_of_the_labelled_figure_is_told_and_its_end_too(performance, raised, over):
    found = alerts_of(performance=performance)
    assert told(found) == (raised, over)
    assert all(alert.words.startswith("labelled PR-AUC has fallen. ") for alert in found.alerts)


@pytest.mark.parametrize(
    ("status", "raised", "over"),
    [
        ("refused", {"gate_verdict:7"}, {"waiting_approval:7", "no_verdict:7"}),
        ("waiting_approval", {"waiting_approval:7"}, {"no_verdict:7"}),
        ("promoted", {"promoted:7"}, {"waiting_approval:7", "gate_verdict:*", "no_verdict:*", "performance_drop"}),
        ("rejected", set(), {"waiting_approval:7"}),
        ("undecided", {"no_verdict:7"}, set()),
        ("overtaken", set(), set()),
        ("waiting_gate", set(), set()),
    ],
)
def test_a_challenger_is_told_of_as_it_goes(status, raised, over):
    assert told(alerts_of(promotion={"version": "7", "status": status, "words": "so it is"})) == (raised, over)
    assert told(alerts_of(promotion={"status": status})) == (set(), set())


def test_who_waits_for_approval_is_told_with_the_commands():
    (alert,) = alerts_of(promotion={"version": "7", "status": "waiting_approval"}).alerts
    assert alert.key == waiting_key("7")
    assert "`churn approve 7 --by NAME --why TEXT`" in alert.words


STATUS = st.sampled_from(["ok", "broken", "insufficient", "stable", "drift", "unknown", "odd"])
WINDOWS = st.lists(
    st.fixed_dictionaries({"status": STATUS}, optional={"window": st.integers(), "drifted": st.just(["a"])})
)
FALL = st.fixed_dictionaries({}, optional={"dropped": st.booleans(), "status": STATUS})
REPORT = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "windows": WINDOWS,
        "dropped": st.booleans(),
        "kind": STATUS,
        "version": st.text(),
        "status": STATUS,
        "fall": FALL,
    },
)


@given(REPORT, REPORT, REPORT, REPORT, REPORT)
def test_no_key_is_raised_and_over_at_once_whatever_the_reports(quality, drift, performance, decision, promotion):
    findings = alerts_of(quality, drift, performance, decision, promotion)
    raised, over = told(findings)
    assert not raised & over
    assert len(raised) == len(findings.alerts)
    assert all(alert.words.strip() and "\n" not in alert.title for alert in findings.alerts)
