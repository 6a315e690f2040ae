"""Two models beside each other: each figure is that of card, report, ladder file or the gate's comparison."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import fields

from churn_assets.dashboard.pages.models.compare import ReportParts
from churn_assets.promotion.ledger import Ledger
from churn_assets.reporting.model.facts import Report
from churn_assets_tests.dashboard.browser import visit
from churn_assets_tests.test_home_0_1 import CHAMPION, FIRST, REFUSED, WAITING

PATH = f"/compare.json?a={CHAMPION}&b={WAITING}"
NAMES = {"PR-AUC": "pr_auc", "ROC AUC": "roc_auc", "log-loss": "log_loss", "Brier score": "brier"}
PARTS = {"test customers": "test", "newest customers": "oot", "validation, out of fold": "validation"}
VERSIONS = {"first": CHAMPION, "second": WAITING}


@pytest.fixture(scope="module")
def page(visitor):
    return visitor.json(PATH)


def test_metrics_are_those_of_the_cards_and_of_the_reports(page, made):
    of_cards = 0
    for row in page["metrics"]:
        for place, version in VERSIONS.items():
            if row["metric"] in NAMES:
                known = json.loads((made.bundles_dir / version / "card.json").read_text())["metrics"]
                name, of_cards = f"{PARTS[row['rows']]}_{NAMES[row['metric']]}", of_cards + 1
                ends = [known.get(f"{name}{end}") for end in ("", "_low", "_high")]
            else:
                figures = json.loads((made.reports_dir / version / "metrics.json").read_text())["sides"]["test"]
                names = {"F1": "f1", "lift in the first 10 %": "lift_at_10_percent", "calibration error": "ece"}
                known = figures["metrics"][names.get(row["metric"], row["metric"])]
                ends = [known["value"], known["low"], known["high"]]
            shown = row[place]
            assert [shown and shown[end] for end in ("value", "low", "high")] == ends
    assert of_cards >= 20
    assert len(page["metrics"]) * 2 - of_cards == 10


def test_the_difference_on_the_same_customers_is_that_of_the_verdict(page, made):
    checks = {check.check: check for check in Ledger(made.ledger_path).challenger(WAITING).verdict.checks}
    same = page["same_customers"]
    assert same["pr_auc"]["low"] == pytest.approx(checks["holdout_pr_auc"].value, abs=1e-12)
    assert same["log_loss"]["low"] == pytest.approx(checks["holdout_log_loss"].value, abs=1e-9)
    assert same["log_loss"]["value"] == pytest.approx(same["second_log_loss"] - same["first_log_loss"])
    assert same["pr_auc"]["value"] == pytest.approx(same["second_pr_auc"] - same["first_pr_auc"])
    assert f"{same['rows']} customers, {same['churned']} of them churned" in checks["holdout_rows"].message


def test_the_other_way_round_differences_change_their_sign(page, visitor):
    turned = visitor.json(f"/compare.json?a={WAITING}&b={CHAMPION}")["same_customers"]
    assert turned["pr_auc"]["value"] == -page["same_customers"]["pr_auc"]["value"]
    assert turned["pr_auc"]["low"] == pytest.approx(-page["same_customers"]["pr_auc"]["high"])


def test_ladder_curves_and_segments_are_those_of_their_files(page, made):
    for place, version in VERSIONS.items():
        stored = json.loads((made.bundles_dir / f"{version}.ladder.json").read_text())["rungs"]
        rungs = {(rung["words"], split): rung.get(name) for rung in stored
                 for name, split in (("random", "test customers"), ("out_of_time", "newest customers"))}  # fmt: skip
        assert {(r["label"], r["rows"]): r[place] for r in page["ladder"] if r[place]} == rungs
        report = json.loads((made.reports_dir / version / "metrics.json").read_text())
        curves = page[place]["test"]["curves"]
        assert {n: curves[n] for n in ("pr", "calibration")} == {
            n: report["sides"]["test"]["curves"][n] for n in ("pr", "calibration")
        }
        segments = {(s["column"], s["level"]): s["test"] for s in report["segments"]}
        for shown in page["segments"]:
            assert shown[place] == segments.get((shown["column"], shown["level"]))
        card = json.loads((made.bundles_dir / version / "card.json").read_text())
        assert page[place]["profit"] == card["profit"]["curve"]
    assert page["segments"]


def test_the_page_draws_both_in_every_chart(visitor):
    html = visitor.client.get(PATH.replace(".json", "")).text
    for title in ("Precision over recall", "Calibration", "Profit", "PR-AUC by columns left out", "PR-AUC with 95"):
        chart = html.split(f'role="img" aria-label="{title}')[1].split("</svg>")[0]
        assert {style for style in ("a", "b") if f' {style}"' in chart or f'f{style}"' in chart} == {"a", "b"}, title


def test_what_is_read_of_a_report_is_a_part_of_it():
    parts, report = ({field.name: field.type for field in fields(struct)} for struct in (ReportParts, Report))
    assert parts.items() <= report.items()


def test_any_two_versions_can_be_compared_and_only_those_of_the_home(visitor):
    page = visitor.json(f"/compare.json?a={FIRST}&b={REFUSED}")
    assert page["without_report"] == [FIRST, REFUSED]
    assert page["same_customers"]["rows"] == 225
    assert page["segments"] == []
    assert "churn run" in visitor.get(f"/compare?a={FIRST}&b={REFUSED}").text
    visitor.get("/compare?a=0123456789abcdef", 404)
    default = visitor.json("/compare.json")
    assert [default[place]["model"]["version"] for place in VERSIONS] == [CHAMPION, WAITING]


def test_a_half_written_report_takes_its_part_away(settings):
    path = settings.reports_dir / WAITING / "metrics.json"
    path.write_text(path.read_text()[:500])
    visitor = visit(settings)
    page = visitor.json(PATH)
    assert page["second"]["test"] is None
    assert page["first"]["test"] is not None
    assert any("metrics.json" in problem for problem in page["problems"])
    assert "metrics.json" in visitor.get(PATH.replace(".json", "")).text


def test_without_frozen_customers_it_says_why(settings):
    for path in settings.holdout_dir.glob("*.parquet"):
        path.unlink()
    page = visit(settings).json(PATH)
    assert page["same_customers"] is None
    assert "no frozen customers" in page["not_compared"]
