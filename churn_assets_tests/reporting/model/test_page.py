"""The report: every number from the facts, nothing from elsewhere, and missing parts are marked."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from churn_assets.errors import TrainingError
from churn_assets.evaluation.metrics import ece
from churn_assets.html.templating import escape_markdown, rounding
from churn_assets.leakage.audit import Audit
from churn_assets.reporting.model import collect
from churn_assets.reporting.model.card import model_card
from churn_assets.reporting.model.facts import Report, as_json
from churn_assets.reporting.model.importance import importance
from churn_assets.reporting.model.measure import FEWEST, Scored, curves, metrics, score_histogram, segment
from churn_assets.reporting.model.page import render_card, render_report
from churn_assets.reporting.model.segments import banded, segments
from churn_assets.reporting.model.worked import typical_positions
from churn_assets.reporting.run_summary import describe_doubts, describe_quality
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.calibration import Identity
from churn_assets.scoring.card import Provenance
from churn_assets.scoring.explain import Explainer
from churn_assets.scoring.list_money import describe_list_money
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.scoring.prices import prices
from churn_assets.training import select
from churn_assets.training.export import write_choice
from churn_assets.training.feature_table import training_data
from churn_assets.training.profit import describe_profit
from churn_assets_tests.html.phone import BROWSER, Tables, folds_on_a_phone, measured
from churn_assets_tests.html.reader import read
from churn_assets_tests.strategies import STORE

HOSTILE = "<script>alert('x')</script>"
FIGURE = {"pr_auc": 0.5, "low": 0.4, "high": 0.6, "base_rate": 0.2, "rows": 100}
ECHO = {"roc_auc": 0.6, "tied": 0.3, "by_label": None, "by_label_error": None}
COLUMN: dict[str, Any] = {
    "headline_loss_when_removed": 0.4,
    "single_column_pr_auc_lift": 0.5,
    "isolated_churner_share": 0.0,
    "isolated_by": "",
    "values": ECHO,
    "gaps": None,
    "repeats": [],
}
AUDIT: dict[str, Any] = {
    "recipe": "boosted trees",
    "sentences": ["The first sentence.", "The second sentence."],
    "rungs": [
        {"words": "everything", "left_out": [], "random": FIGURE, "out_of_time": FIGURE},
        {"words": "without esent", "left_out": ["esent"], "random": FIGURE},
    ],
    "bands": [
        {"words": "0 to 30 days", "rows": 5, "churners": 1},
        {"words": "30 days and more", "churners": 9, **FIGURE},
    ],
    "columns": {"esent": {**COLUMN, "alone": {"random": FIGURE}}, "city": {**COLUMN, "alone": {}}},
    "findings": [
        {
            "column": "esent",
            "words": "alone gets far",
            "attested": "",
            "limit": "echo_roc_auc",
            "found": 0.9,
            "allowed": 0.6,
        }
    ],
    "suspects": ["esent"],
    "rows": 3000,
    "churners": 600,
    "source": "generated",
}
VALIDATED = {
    "rows_in": 3000, "rows_valid": 2990, "rows_rejected": 10, "rejected_share": 10 / 3000, "duplicate_ids": 1,
    "conflicting_ids": 0, "as_of": "2014-01-20", "as_of_words": "newest date", "max_rejected_share": 0.05,
    "repairs": [{"repair": "excel_1904", "rows": 7, "cells": 9, "words": "undone"}],
    "causes": [{"reason": "null", "column": "custid", "rows": 10, "what happens": "rejected", "example": HOSTILE}],
}  # fmt: skip


@pytest.fixture(scope="session")
def bundle(choice, candidates, customers, tmp_path_factory) -> Path:
    origin = Provenance(git_commit="abc", generated=True)
    return write_choice(STORE, choice, candidates, customers, tmp_path_factory.mktemp("bundles"), origin)


@pytest.fixture(scope="session")
def report(bundle, customers, features, splits, candidates) -> Report:
    validated = {**customers.schema.metadata, b"churn_validation": json.dumps(VALIDATED).encode()}
    table = customers.replace_schema_metadata(validated)
    return collect.collect_report(bundle, table, features, splits, candidates)


@pytest.fixture(scope="session")
def facts(report) -> dict[str, Any]:
    """The JSON form of the report."""
    return json.loads(as_json(report))


def with_all(facts: dict[str, Any]) -> dict[str, Any]:
    metrics = ("pr_auc", "roc_auc", "log_loss", "ece")
    summary = {f"{metric}_{statistic}": 0.71 for metric in metrics for statistic in ("mean", "deviation")}
    folds = {"rows": 2550, "summary": [{"model": "logistic", **summary}]}
    return {**copy.deepcopy(facts), "ladder": AUDIT, "cross_validation": folds}


def without(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run that has trained and nothing else, with a bundle from before the profit report."""
    return {**facts, "ladder": None, "profit": None, "cross_validation": None}


def page_of(facts: dict[str, Any]) -> str:
    return render_report(msgspec.convert(facts, Report))


def card_of(facts: dict[str, Any]) -> str:
    return render_card(msgspec.convert(facts, Report))


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def shown(text: str) -> list[float]:
    return [float(attributes["value"]) for tag, attributes in read(text).tags if tag == "data"]


@pytest.mark.parametrize("complete", [False, True], ids=["of the training alone", "with audit, profit and folds"])
def test_every_number_on_the_page_is_in_the_facts(facts, complete):
    changed = with_all(facts) if complete else without(facts)
    known = {float(leaf) for leaf in leaves(changed) if isinstance(leaf, (int, float))}
    result = shown(page_of(changed))
    assert len(result) > 250
    assert set(result) <= known


def test_the_headline_of_the_choice_is_the_headline_of_the_report(facts, choice):
    text = page_of(facts)
    value, low, high = (choice.metrics[f"test_pr_auc{end}"] for end in ("", "_low", "_high"))
    assert f'<div class="tile a"><b><data value="{value!r}">{value:{rounding(low, high)}}</data>' in text
    assert facts["sides"]["test"]["recomputed_pr_auc"] == pytest.approx(choice.metrics["test_pr_auc"], abs=1e-12)
    assert facts["sides"]["oot"]["recomputed_pr_auc"] == pytest.approx(choice.metrics["oot_pr_auc"], abs=1e-12)
    for name in ("ece", "precision", "recall", "f1"):
        assert facts["sides"]["test"]["metrics"][name]["value"] == pytest.approx(choice.metrics[f"test_{name}"])


def test_the_page_loads_and_runs_nothing(facts):
    text = page_of(with_all(facts))
    result = read(text)
    assert {tag for tag, _ in result.tags} & {"script", "link", "iframe", "object", "img"} == set()
    for _, attributes in result.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert str(attributes.get("href", "#")).startswith("#")
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in text
    assert len(text.encode()) < 1_500_000


def test_no_table_is_wider_than_a_phone(facts):
    for changed in (with_all(facts), without(facts)):
        text = page_of(changed)
        tables = Tables(text)
        assert tables.count > 10
        assert tables.wide == []
        assert folds_on_a_phone(text)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: the markup and the style sheet are checked without it")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_cuts_nothing(facts, width, tmp_path):
    wide = with_all(facts)
    for row in wide["segments"]:  # the worst and the best are in the text of the card as well
        row["level"] += "_Electronic_check_and_other_automatic_payments_of_the_customer"
    result = measured(page_of(wide), tmp_path, width)
    assert result == {"width": width, "page": width, "cut": []}


def test_charts_are_named_and_the_page_can_be_read_by_keyboard(facts):
    tags = read(page_of(with_all(facts))).tags
    names = [attributes.get("aria-label") for tag, attributes in tags if tag == "svg"]
    assert len(names) >= 8
    assert all(names)
    assert len(names) == len(set(names))
    boxes = [attributes for tag, attributes in tags if attributes.get("class") == "scroll"]
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert all(attributes.get("scope") == "col" for tag, attributes in tags if tag == "th")


def test_the_bars_of_a_worked_customer_add_up_to_the_score(facts, customers, bundle):
    worked = facts["worked"]
    assert [row["risk"] for row in worked["customers"]] == ["low", "middle", "high"]
    assert len({row["customer"] for row in worked["customers"]}) == 3
    probabilities = [row["probability"] for row in worked["customers"]]
    assert probabilities == sorted(probabilities)
    threshold = facts["threshold"]["value"]
    scorer, as_of = load_bundle(bundle), customers.schema.metadata[b"churn_as_of"].decode()
    ids = customers[STORE.key.name].cast(pa.string()).to_pylist()
    for row in worked["customers"]:
        assert worked["base"] + sum(step["contribution"] for step in row["steps"]) == pytest.approx(
            row["log_odds"], abs=1e-4
        )
        assert row["predicted"] is (row["probability"] >= threshold)
        mine = customers.slice(ids.index(row["customer"]), 1)
        assert scorer.score_table(mine, as_of).probability[0] == pytest.approx(row["probability"], abs=1e-9)
        assert tuple(row["reasons"]) == tuple(r.text for r in Explainer(scorer).explain_table(mine, as_of)[0])
        for text in (f"customer {row['customer']}", *row["reasons"]):
            assert escape(text) in page_of(facts)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99), st.integers(1, 12))
def test_typical_rows_are_different_and_in_order(seed, threshold, rows):
    _, probability = drawn(seed, rows=max(2, rows))
    result = typical_positions(probability, threshold)
    assert len(result) == min(3, len(probability))
    assert len(set(result.values())) == len(result)
    assert probability[result["low"]] <= probability[result["high"]]
    if threshold > probability.max():
        assert probability[result["high"]] == probability.max()


def test_the_learning_curve_ends_with_the_model_of_the_report(facts):
    points = facts["learning"]["points"]
    assert points[-1]["test"]["value"] == pytest.approx(facts["sides"]["test"]["metrics"]["pr_auc"]["value"])
    rows = [point["rows"] for point in points]
    parts = facts["data"]["parts"]["random"]
    train = parts["train"]
    assert rows == sorted(set(rows))
    assert rows[-1] == train["rows"] + parts["validation"]["rows"]
    for point in points:
        assert point["churners"] / point["rows"] == pytest.approx(train["churn_rate"], abs=0.01)
        assert point["test"]["low"] <= point["test"]["value"] <= point["test"]["high"]
    gain = facts["learning"]["gain"]
    assert gain["value"] == pytest.approx(points[-1]["test"]["value"] - points[-2]["test"]["value"])
    assert "Would more customers help?" in page_of(facts)


def test_parts_that_older_figures_lack_are_marked(facts):
    changed = copy.deepcopy(facts)
    del changed["worked"], changed["learning"], changed["importance"]["summary"]
    for side in changed["sides"].values():
        del side["scores"], side["curves"]["lift"]
        side.pop("thresholds", None)
    text = page_of(changed)
    assert "</strong>the reasons of single customers" in text
    assert "</strong>the learning curve" in text
    assert "SHAP summary" not in text


def test_the_threshold_table_marks_the_operating_points(facts):
    text = page_of(facts)
    rows = [row for side in facts["sides"].values() for row in side["thresholds"]]
    marked = [row for row in rows if row["names"]]
    assert text.count('<tr class="marked">') == len(marked) > 2
    for row in marked:
        assert f'<data value="{row["threshold"]!r}">' in text


def test_generated_customers_are_announced_and_real_ones_are_not(facts):
    assert "These customers are generated, not real." in page_of(facts)
    assert "generated, not real" in card_of(facts)
    assert facts["limits"][0]["title"] == "Not for any real customer"
    real = copy.deepcopy(facts)
    real["data"]["generated"] = False
    assert "generated, not real" not in page_of(real)
    assert "generated, not real" not in card_of(real)


def test_the_ladder_comes_first_and_missing_parts_are_marked(facts):
    text = page_of(without(facts))
    anchors = re.findall(r'<section id="(\w+)"', text)
    assert anchors[:2] == ["short", "ladder"]
    assert text.count("Not computed in this run: ") == 3
    complete = page_of(with_all(facts))
    assert "Not computed in this run" not in complete
    profit = f"{facts['profit']['chosen']['profit']:.2f} per customer of the table"
    for text in (*AUDIT["sentences"], "without esent", "alone gets far", profit, "0 to 30 days"):
        assert text in complete
    assert "Not computed in this run" in card_of(without(facts))
    assert "The second sentence." in card_of(with_all(facts))


def test_the_card_is_short_and_the_same_in_page_and_markdown(facts):
    changed = with_all(facts)
    markdown, page = card_of(changed), page_of(changed)
    section = "".join(read(page[page.index('<section id="card">') : page.index('<section id="origin">')]).text)
    headings = re.findall(r"^## (.*)$", markdown, re.M)
    assert headings == [
        "Model details",
        "Intended use",
        "Data",
        "Metrics",
        "Factors",
        "Limits",
        "Ethical considerations",
    ]
    report = msgspec.convert(changed, Report)
    parts = model_card(report, describe_quality(report), describe_doubts(report, None))
    assert [part.title for part in parts] == headings
    for part in parts:
        for text in (*part.paragraphs, *(text for _, text in part.points)):
            assert text in section
            assert escape_markdown(text) in markdown
    assert len(markdown.split()) < 1200


@pytest.mark.parametrize(
    ("name", "is_personal"),
    [
        *(("SeniorCitizen", True), ("customer_age", True), ("gender", True), ("Marital_Status", True), ("AGE", True)),
        *(
            ("usage", False),
            ("package", False),
            ("first_order_age_days", False),
            ("AccountAge", False),
            ("tenure_days", False),
            ("message_count", False),
        ),
    ],
)
def test_the_card_names_features_that_describe_a_person(report, name, is_personal):
    changed = msgspec.structs.replace(report, model=msgspec.structs.replace(report.model, features=["esent", name]))
    (ethics,) = (part for part in model_card(changed, "", []) if part.title == "Ethical considerations")
    assert (f"'{name}'" in ethics.paragraphs[0]) is is_personal


def test_the_page_begins_with_whom_to_call_and_what_to_doubt(facts):
    text = page_of(with_all(facts))
    places = [text.index(part) for part in ("Whom to call", "How good the model is", "What to doubt", 'class="tile')]
    assert places == sorted(places)
    report = msgspec.convert(with_all(facts), Report)
    money = describe_list_money(report.profit.call_list)
    summary = text[text.index('id="short"') : text.index('id="ladder"')]
    assert all(escape(sentence) in summary for sentence in money)
    for sentence in (describe_profit(report.profit), describe_quality(report), *describe_doubts(report, None)):
        assert escape(sentence) in text


def test_what_a_suspect_is_worth_is_told_by_two_fits_of_one_kind(facts):
    """The headline is that of the chosen model, the figure without the column is not: they do not compare."""
    changed = with_all(facts)
    changed["ladder"] = {**AUDIT, "refitted": {**FIGURE, "pr_auc": 0.9}}
    doubts = describe_doubts(msgspec.convert(changed, Report), None)
    expected = f"A quick refit reaches PR-AUC 0.90 with it, {FIGURE['pr_auc']:.2f} without."
    assert [doubt.endswith(expected) for doubt in doubts if doubt.startswith("'esent'")] == [True]


def test_a_model_without_signal_calls_nobody(facts):
    changed = with_all(facts)
    changed["model"]["no_signal"] = True
    text = page_of(changed)
    assert "Nobody: the model is no better than random" in text
    assert "Nobody" not in page_of(with_all(facts))


def test_columns_that_were_left_out_stand_in_the_summary_with_both_figures(facts):
    changed = with_all(facts)
    complete = {"words": "with end_date", "left_out": [], "random": {**FIGURE, "pr_auc": 0.987654}}
    changed["ladder"] = {**AUDIT, "complete": complete, "left_out_sentences": ["The run left out 'end_date'."]}
    text = page_of(changed)
    summary = text[text.index('id="short"') : text.index('id="ladder"')]
    for part in ("The run left out &#39;end_date&#39;.", "with end_date", "0.987654", "everything"):
        assert part in summary
    assert Tables(text).wide == []


def test_text_of_the_table_cannot_become_markup(facts):
    changed = with_all(facts)
    changed["segments"][0]["level"] = changed["model"]["title"] = changed["data"]["source"] = HOSTILE
    changed["words"] = dict.fromkeys(changed["words"], HOSTILE)
    changed["ladder"] = {**AUDIT, "sentences": [HOSTILE], "recipe": HOSTILE}
    for text in (page_of(changed), card_of(changed)):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_a_small_segment_has_no_figure(facts):
    few = [row for row in facts["segments"] if row["test"]["rows"] and not row["test"]["enough"]]
    assert few
    assert all(row["test"]["pr_auc"] is None for row in few)
    assert all(min(r["test"]["churners"], r["test"]["rows"] - r["test"]["churners"]) < FEWEST for r in few)
    assert page_of(facts).count("too few to say") >= len(few)
    assert any(few[0]["column"] in limit["words"] for limit in facts["limits"])


def test_segments_of_a_column_are_all_the_test_customers(facts):
    for column in {row["column"] for row in facts["segments"]}:
        rows = [row["test"]["rows"] for row in facts["segments"] if row["column"] == column]
        assert sum(rows) == facts["sides"]["test"]["rows"]


def test_every_category_and_yes_no_column_has_segments(facts):
    names = {c.name for c in STORE.scoring_columns if c.kind in ("category", "boolean")}
    assert {row["column"] for row in facts["segments"]} == names | {"days since created"}


def test_customers_of_different_value_are_segments(customers, candidates, features, splits):
    contract = dataclasses.replace(STORE, value=dataclasses.replace(STORE.value, value="avgorder * 12"))
    data, as_of = training_data(STORE, features, splits), customers.schema.metadata[b"churn_as_of"].decode()
    worth = prices(contract, customers, as_of)
    chosen = {"test": select.tested(candidates[0], "random", data, Identity())}
    scored = {name: Scored.of(*rows, seed=1) for name, rows in chosen.items()}
    rows = [row for row in segments(contract, customers, data, scored, worth) if row.column == "customer value"]
    assert len(rows) == 5
    assert sum(row.test.rows for row in rows) == len(data.views["random"].split.test)
    assert "customer value" not in {row.column for row in segments(STORE, customers, data, scored, worth)}


@given(st.lists(st.integers(0, 9).map(float) | st.just(math.nan), min_size=1, max_size=60))
def test_bands_hold_each_row_once_in_order_and_equal_values_together(values):
    codes, names = banded(np.array(values), str)
    known = [(value, code) for value, code in zip(values, codes.tolist(), strict=True) if not math.isnan(value)]
    assert [code for _, code in sorted(known)] == sorted(code for _, code in known)
    assert len(dict(known)) == len(set(known))
    assert {
        names[code] == "not known" for value, code in zip(values, codes.tolist(), strict=True) if math.isnan(value)
    } <= {True}
    assert all(names[code] != "not known" for _, code in known)
    for value, code in known:
        if " to under " in names[code]:
            low, high = map(float, names[code].split(" to under "))
            assert low <= value < high


def test_without_a_cohort_out_of_time_figures_are_marked_as_missing(facts):
    changed = with_all(facts)
    del changed["sides"]["oot"]
    for row in changed["segments"]:
        del row["oot"]
    text = page_of(changed)
    assert "no cohorts" in text
    assert "Not computed in this run: </strong>the out-of-time curves" in text
    assert "| metric | random split |" in card_of(changed)


def test_the_files_are_complete_and_consistent(report, facts, bundle, tmp_path):
    written = collect.write_report(report, bundle, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(collect.FILES) == set(written)
    stored = json.loads(written[collect.METRICS].read_text())
    assert stored == facts
    assert page_of(stored) == written[collect.PAGE].read_text(encoding="utf-8")
    changed = json.loads(written[collect.IMPORTANCE].read_text())
    assert {row["feature"] for row in changed["features"]} == set(facts["model"]["features"])


def test_an_audit_of_another_model_is_not_shown(bundle, customers, features, splits, candidates):
    audit = msgspec.convert({**AUDIT, "model": "another"}, Audit)
    report = collect.collect_report(bundle, customers, features, splits, candidates, audit=audit)
    assert report.ladder is None


def test_a_model_that_is_not_among_the_candidates_is_refused(bundle, customers, features, splits, candidates, choice):
    others = [c for c in candidates if c.name not in choice.name.split(" + ")]
    with pytest.raises(TrainingError, match=r"the bundle holds .* materialise chosen_model again"):
        collect.collect_report(bundle, customers, features, splits, others)


def test_a_figure_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="Out of range float"):
        as_json({"pr_auc": math.nan})


# -- what is measured --------------------------------------------------------------------------------


def drawn(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = np.round(rng.beta(0.6, 2.0, rows), 2)  # rounded: with ties
    churned = (rng.random(rows) < probability).astype(np.int8)
    churned[:2] = (0, 1)
    return churned, probability


@given(st.integers(0, 2**32 - 1))
def test_curves_have_the_right_end_points(seed):
    churned, probability = drawn(seed)
    result = curves(Scored.of(churned, probability, 1), STORE.value)
    assert result.pr[-1] == (1.0, round(float(churned.mean()), 5))
    assert result.roc[0] == (0.0, 0.0)
    assert result.roc[-1] == (1.0, 1.0)
    assert result.gains[-1] == (1.0, 1.0)
    assert result.lift[-1] == (1.0, 1.0)
    assert max(lift for _, lift in result.lift) <= 1 / churned.mean() + 1e-4
    assert all(
        lift == pytest.approx(recall / share, abs=2e-3)
        for share, recall in result.gains
        for x, lift in result.lift
        if x == share
    )
    assert result.profit[0] == (0.0, 0.0, 0.0, 0.0)
    for points in (result.pr, result.roc, result.gains):
        assert [x for x, _ in points] == sorted(x for x, _ in points)


@given(st.integers(0, 2**32 - 1))
def test_the_score_histogram_holds_every_customer_once(seed):
    churned, probability = drawn(seed)
    result = score_histogram(Scored.of(churned, probability, 1))
    assert (sum(result.churned), sum(result.kept)) == (churned.sum(), len(churned) - churned.sum())
    assert result.edges == sorted(result.edges)
    assert 0.0 < result.edges[0] < result.edges[-1] < 1.0


def test_the_score_histogram_of_one_score_is_drawn():
    result = score_histogram(Scored.of(np.array([0, 1, 1]), np.full(3, 0.4), 1))
    assert (sum(result.churned), sum(result.kept)) == (2, 1)


@given(st.integers(0, 2**32 - 1))
def test_intervals_are_ordered_and_values_follow_their_definition(seed):
    churned, probability = drawn(seed)
    known = {f"test_{n}{e}": 0.5 for n in ("pr_auc", "roc_auc", "log_loss", "brier") for e in ("", "_low", "_high")}
    result = metrics(Scored.of(churned, probability, 1), 0.3, known, "test")
    assert all(value.low <= value.high for value in result.values())
    assert result["ece"].value == ece(churned, probability)
    first = np.argsort(-probability, kind="stable")[:40]
    assert result["lift_at_10_percent"].value == pytest.approx(churned[first].mean() / churned.mean())


def test_the_profit_curve_is_that_of_the_profit_report(facts):
    names = ("contacted_share", "profit", "low", "high")
    expected = [[point[name] for name in names] for point in facts["profit"]["curve"]]
    curve = np.array(facts["sides"]["test"]["curves"]["profit"])
    assert curve.tolist() == expected
    for row in facts["profit"]["list_sizes"]:
        # Between two points the variance grows with the rows; a list of 1 % ends within the first step.
        width = math.sqrt(np.interp(row["contacted_share"], curve[:, 0], (curve[:, 3] - curve[:, 2]) ** 2))
        assert width == pytest.approx(row["high"] - row["low"], rel=0.25, abs=0.05)


def test_a_segment_of_all_customers_has_an_ordered_interval():
    churned, probability = drawn(3, rows=2000)
    tested = Scored.of(churned, probability, 1)
    result = segment(tested, np.ones(2000, dtype=bool))
    assert result.pr_auc.low <= result.pr_auc.value <= result.pr_auc.high
    assert segment(tested, np.zeros(2000, dtype=bool)).rows == 0


@pytest.mark.parametrize("name", ["logistic", "boosted", "network", "boosted + logistic", "boosted + network"])
def test_each_kind_of_model_has_its_importance_method(name, candidates, choice):
    view = choice.views["random"]
    models = [c.fitted["random"].model for part in name.split(" + ") for c in candidates if c.name == part]
    model = models[0] if len(models) == 1 else BlendModel(models, [0.5, 0.5])
    test = view.matrix[view.split.test][:200]
    churned = np.arange(200) % 4 == 0
    result = importance(model, view.program.specs, view.matrix[view.split.train], test, churned)
    assert result.method == ("permutation" if "network" in name else "shapley")
    assert len(result.features) == len(view.program.specs)
    values = [row.value for row in result.features]
    assert values == sorted(values, reverse=True)
    assert all(math.isfinite(leaf) for leaf in leaves(msgspec.to_builtins(result)) if isinstance(leaf, float))
    assert len(result.dependence) == 6
    assert [row.feature for row in result.summary] == [row.feature for row in result.features[: len(result.summary)]]
    assert len(result.summary) == 12
    assert all(level is None or 0.0 <= level <= 1.0 for row in result.summary for _, level in row.points)


def test_the_bundle_scores_as_the_report_says(facts, bundle, customers, choice):
    scorer = load_bundle(bundle)
    test = choice.views["random"].split.test
    as_of = customers.schema.metadata[b"churn_as_of"].decode()
    probability = scorer.score_table(customers.take(pa.array(test)), as_of).probability
    predicted = int(np.sum(probability >= facts["threshold"]["value"]))
    changed = facts["sides"]["test"]["confusion"]
    assert predicted == changed["true_positives"] + changed["false_positives"]
