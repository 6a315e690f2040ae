"""Curves, confusion, and every metric with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.html.markup import Markup, absent, card, el, estimate, grid, number, section, table
from churn_assets.reporting.model.curves import SIDES, drawings

Facts = Mapping[str, Any]

METRICS = (
    ("pr_auc", "PR-AUC", "area under precision over recall; a random list reaches the churn rate", ".3f", "higher"),
    ("roc_auc", "ROC AUC", "chance that a churner ranks above a kept customer", ".3f", "higher"),
    ("lift_at_10_percent", "lift at 10 %", "churners among the riskiest tenth, against all", ".2f", "higher"),
    ("log_loss", "log loss", "mean surprise at what happened, natural logarithm", ".4f", "lower"),
    ("brier", "Brier score", "mean squared error of the probability", ".4f", "lower"),
    ("ece", "calibration error", "expected, 15 bins of equal size (ECE)", ".4f", "lower"),
    ("precision", "precision", "churned, of those named at the chosen threshold", ".3f", "higher"),
    ("recall", "recall", "named, of those who churned", ".3f", "higher"),
    ("f1", "F1", "harmonic mean of the two", ".3f", "higher"),
)
TITLES = {"precision_recall": "Precision and recall", "roc": "ROC", "gains": "Lift", "calibration": "Calibration"}
NOTES = {
    "precision_recall": "Dashed: a random list. The further up and right, the better.",
    "roc": "Dashed: a random list. Flatters where churners are few: read it beside precision and recall.",
    "gains": "Cumulative gains; lift is how many times higher a curve stands than the dashed line, a random list.",
    "calibration": "Dashed: perfect. 15 bins of equal size; the band is each bin's 95 % interval (Wilson).",
}


def performance_section(facts: Facts) -> Markup:
    """Curves of both splits in one drawing each, and the confusion of both."""
    charts = [card(TITLES[name], chart, note=NOTES[name]) for name, chart in drawings(facts).items()]
    lead = (
        "Blue: test customers drawn at random from the table. Orange: the newest customers, scored by a model that has "
        "seen only older ones. Neither was used to make any decision."
    )
    missing = (
        None if "oot" in facts["sides"] else absent("the out-of-time curves", "The contract names no usable cohort.")
    )
    boxes = [_confusion(facts, *side[:2]) for side in SIDES if side[0] in facts["sides"]]
    return section("performance", "How well it ranks, and how far its probabilities can be trusted", missing,
                   grid(charts), grid(boxes), lead=lead)  # fmt: skip


def metrics_section(facts: Facts) -> Markup:
    """A table of every metric on test rows, out of time beside it."""
    there = [side for side in SIDES if side[0] in facts["sides"]]
    rows = []
    for name, words, doc, form, better in METRICS:
        found = [estimate(facts["sides"][side]["metrics"][name], form) for side, *_ in there]
        rows.append([[words, el("span", f"{doc}; {better} is better", class_="doc")], *found])
    counts = [
        [
            number(facts["sides"][side]["rows"], ","),
            el("small", " of them churned ", number(facts["sides"][side]["churners"], ",")),
        ]
        for side, *_ in there
    ]
    rows.append(["test customers", *counts])
    head = ["metric", *(words for _, words, _ in there)]
    perfect = facts["sides"]["test"]["ece_of_perfect"]
    note = [
        "95 % intervals: percentile bootstrap over test customers, stratified by label. A calibration error is never "
        "zero on a finite sample: perfect probabilities would show ",
        number(perfect["low"], ".4f"),
        " to ",
        number(perfect["high"], ".4f"),
        " on the random split's test customers.",
    ]
    box = card("", table(head, rows, numeric=range(1, len(head))), note=note)
    return section("figures", "Every figure, with its interval", box)


def _confusion(facts: Facts, side: str, words: str) -> Markup:
    found, threshold = facts["sides"][side]["confusion"], facts["threshold"]

    def box(name: str, said: str, right: bool) -> Markup:
        return el("div", el("b", number(found[name], ",")), said, class_="right" if right else None)

    matrix = el(
        "div",
        [el("div", head, class_="h") for head in ("", "named as churner", "not named")],
        el("div", "churned", class_="h"),
        box("true_positives", "found", True),
        box("false_negatives", "missed", False),
        el("div", "kept", class_="h"),
        box("false_positives", "false alarm", False),
        box("true_negatives", "left in peace", True),
        class_="matrix",
    )
    note = [
        "Threshold ",
        number(threshold["value"], ".3f"),
        f", set for {threshold['by']} before any test row was read.",
    ]
    return card(f"Confusion, {words}", matrix, note=note)
