"""The end of a run: an honest sentence, whom to call, what to doubt, where, what next."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from churn_assets.errors import AssetStale
from churn_assets.promotion.registration import Registration
from churn_assets.reporting.model.facts import Report
from churn_assets.reporting.run_summary import Calls, describe_doubts, read_run_summary, summarize
from churn_assets.settings import Settings

CONFUSION = {"true_positives": 1, "false_positives": 1, "false_negatives": 1, "true_negatives": 1}


def side(pr_auc: float, low: float, high: float, base_rate: float, churners: int = 200, ece: float = 0.01) -> Any:
    curves = {"base_rate": base_rate, "pr": [], "roc": [], "gains": [], "calibration": [], "profit": []}
    return {
        "rows": round(churners / base_rate),
        "churners": churners,
        "metrics": {
            "pr_auc": {"value": pr_auc, "low": low, "high": high},
            "ece": {"value": ece, "low": ece, "high": ece},
        },
        "recomputed_pr_auc": pr_auc,
        "ece_of_perfect": {"low": 0.0, "high": 0.1},
        "confusion": CONFUSION,
        "curves": curves,
    }


def report(**changes: Any) -> Report:
    """A report without a doubt, and changes to it."""
    facts: dict[str, Any] = {
        "model": {
            "title": "t",
            "chosen": "logistic",
            "reason": "r",
            "contract": "c",
            "fingerprint": "f",
            "model_kind": "linear",
            "model_cost": 1.0,
            "bands": {},
            "seed": 42,
            "features": [],
            "version": "v1",
        },
        "data": {
            "source": "s",
            "generated": False,
            "as_of": "2026-01-01",
            "rows": 1000,
            "churners": 200,
            "churn_rate": 0.2,
            "label": {"column": "l", "meaning": "", "horizon_days": None},
            "cohort": "created",
            "parts": {},
        },
        "threshold": {"value": 0.5, "by": "profit", "all": {}},
        "value": {"customer_value": 1.0, "offer_cost": 1.0, "save_rate": 1.0, "capacity": None},
        "sides": {"test": side(0.9, 0.85, 0.95, 0.2), "oot": side(0.5, 0.4, 0.6, 0.2)},
        "segments": [],
        "fewest": 10,
        "importance": {
            "method": "shapley",
            "words": "",
            "unit": "",
            "sample_rows": 1,
            "model": "",
            "features": [],
            "dependence": [],
        },
        "words": {},
        "comparison": [],
        "calibration": {"kind": "", "reason": "", "tried": {}},
        "candidates": {},
        "suspects": [],
        "ladder": None,
        "profit": None,
        "cross_validation": None,
        "validation": None,
        "provenance": {},
    }
    data = {**facts["data"], **changes.pop("data", {})}
    return msgspec.convert({**facts, "data": data, **changes}, Report)


CHALLENGER = Registration("v2", "bundles/v2", "challenger", "r", "v1", 2, "models:/churn/2", None)
DOUBTS = {
    "none": (report(), []),
    "generated customers": (report(data={"generated": True}), ["generated, not real"]),
    "a random list": (
        report(sides={"test": side(0.3, 0.19, 0.4, 0.2), "oot": side(0.5, 0.4, 0.6, 0.2)}),
        ["On customers drawn at random the model may be no better than a random list."],
    ),
    "few churners": (
        report(sides={"test": side(0.9, 0.5, 0.95, 0.2, churners=12)}),
        ["Few churned, 12 of 60 test customers: these figures may be chance."],
    ),
    "twins of training customers": (
        report(sides={"test": {**side(0.9, 0.85, 0.95, 0.2), "twin_share": 0.3}, "oot": side(0.5, 0.4, 0.6, 0.2)}),
        ["30% of the test customers equal a training customer in every feature: expect less for customers unlike any"],
    ),
    "another cohort": (
        report(sides={"test": side(0.9, 0.8, 0.95, 0.2), "oot": side(0.5, 0.4, 0.6, 0.05)}),
        ["Newer customers are different: 5.0% of them churned, 20.0% of all."],
    ),
    "a newest cohort in which nobody churned": (
        report(sides={"test": side(0.9, 0.8, 0.95, 0.2)}, newest={"rows": 450, "churn_rate": 0.0}),
        ["Newer customers are different: 0.0% of them churned, 20.0% of all."],
    ),
    "probabilities are off": (
        report(sides={"test": side(0.9, 0.8, 0.95, 0.2), "oot": side(0.5, 0.4, 0.6, 0.2, ece=0.12)}),
        ["Probabilities of the newest customers are off by 12% on average"],
    ),
    "a suspect nobody attests": (
        report(suspects=[{"column": "mails", "why": "", "attested": ""}]),
        ["'mails' may be a consequence of churn; nobody attests that it is not."],
    ),
    "an attested suspect": (
        report(suspects=[{"column": "mails", "why": "", "attested": "Ann Lee, 2026-01-01: counted before"}]),
        ["'mails' may be a consequence of churn; that it is not is attested by Ann Lee."],
    ),
}


@pytest.mark.parametrize(("facts", "expected"), DOUBTS.values(), ids=DOUBTS)
def test_each_doubt_is_a_sentence_and_none_is_made_up(facts, expected):
    doubts = describe_doubts(facts, None)
    assert len(doubts) == len(expected), doubts
    for doubt, text in zip(doubts, expected, strict=True):
        assert text in doubt


def test_the_figure_for_newer_customers_comes_first():
    assert summarize(report(), None, None, {}).how_good == (
        "PR-AUC 0.50 (0.40 to 0.60, a random list 0.20) on the newest customers by a model trained on older ones; the "
        "flattering figure, on customers drawn at random, is 0.90 (0.85 to 0.95, a random list 0.20) (1 is perfect)."
    )
    sides = {"test": side(0.67, 0.62, 0.72, 0.27), "oot": side(0.81, 0.78, 0.84, 0.58)}
    assert "; on customers drawn at random it is 0.67 (" in summarize(report(sides=sides), None, None, {}).how_good
    alone = summarize(report(sides={"test": side(0.9, 0.85, 0.95, 0.2)}), None, None, {})
    assert "how well newer customers are ranked is not known" in alone.how_good


def test_calls_are_counted_and_money_is_rounded():
    listed = pa.table(
        {"contact": [True, True, False], "expected_value": [4000.4, 3456.7, -5.0], "model_version": ["v1", "v1", "v1"]}
    )
    calls = Calls.of(listed)
    assert calls == Calls(2, 3, 7457.1, "v1")
    assert summarize(None, None, calls, {}).whom_to_call.startswith(
        "the first 2 of 3 active customers; expected profit 7,460, if"
    )
    control = Calls.of(listed.append_column("control", [[False, False, True]]))
    assert summarize(None, None, control, {}).whom_to_call.startswith(
        "the first 2 of 2 active customers outside the control group; expected"
    )
    nobody = Calls.of(listed.slice(2))
    assert summarize(None, None, nobody, {}).whom_to_call.startswith("nobody: ")


def test_a_challenger_says_whose_list_it_is_and_what_it_waits_for():
    summary = summarize(report(), CHALLENGER, None, {})
    assert summary.doubts == ("The call list is of champion v1; this model is a challenger.",)
    assert list(summary.commands) == ["churn status", "churn score FILE --calls CALLS.xlsx"]


def test_the_lines_have_all_five_parts(tmp_path):
    calls = Calls(2, 3, 10.0, "v1")
    lines = summarize(report(data={"generated": True}), None, calls, {"call list": tmp_path / "l.csv"}).lines
    heads = [line.split(":")[0] for line in lines if not line.startswith(" ")]
    assert heads == ["How good", "Whom to call", "What to doubt", "Where things are", "Next"]
    assert f"  call list  {tmp_path / 'l.csv'}" in lines


def test_an_empty_home_has_no_summary_and_a_damaged_report_is_one_line(tmp_path):
    settings = Settings.from_environ({"CHURN_HOME": str(tmp_path)})
    summary = read_run_summary(settings)
    assert (summary.how_good, summary.whom_to_call, summary.doubts) == ("", "", ())
    settings.reports_dir.mkdir()
    (settings.reports_dir / "metrics.json").write_text('{"model": ')
    with pytest.raises(AssetStale, match="make it again: churn run"):
        read_run_summary(settings)
