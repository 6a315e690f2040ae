"""Curves, confusion, every metric with its interval, and the candidates side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.pages.drawing import Axis, Line, lines, percent
from churn_assets.pages.markup import Markup, absent, card, el, estimate, grid, number, section, table

Facts = Mapping[str, Any]

SIDES = (("test", "random split", "a"), ("oot", "out of time", "b"))
UNIT = Axis("", 0.0, 1.0, lambda value: f"{value:g}", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
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


def performance_section(facts: Facts) -> Markup:
    """Curves of both splits in one drawing each, and the confusion of both."""
    charts = [_pr(facts), _roc(facts), _gains(facts), _calibration(facts)]
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
        "95 % intervals: percentile bootstrap over test customers, stratified by label. A calibration error is never zero "
        "on a finite sample: perfect probabilities would show ",
        number(perfect["low"], ".4f"),
        " to ",
        number(perfect["high"], ".4f"),
        " on the random split's test customers.",
    ]
    box = card("", table(head, rows, numeric=range(1, len(head))), note=note)
    return section("figures", "Every figure, with its interval", box)


def candidates_section(facts: Facts) -> Markup:
    """Who was tried, how far behind the best by a paired bootstrap, and how the choice was made."""
    chosen = facts["model"]["chosen"]
    rows = []
    for row in sorted(facts["comparison"], key=lambda r: -r["validation_pr_auc"]):
        picked = row["candidate"] == chosen
        name = [
            el("b", row["candidate"]) if picked else row["candidate"],
            el("span", "chosen", class_="tag good") if picked else None,
        ]
        tied = el("span", "ties", class_="tag") if row["tied"] else el("span", "behind", class_="tag warn")
        behind = {"value": row["behind_best"], "low": row["behind_best_low"], "high": row["behind_best_high"]}
        rows.append(
            [name, number(row["validation_pr_auc"], ".4f"), [estimate(behind, ".4f"), " ", tied],
             number(row["test_pr_auc"], ".4f"), number(row.get("oot_test_pr_auc"), ".4f"), number(row["cost"], ",.0f")]
        )  # fmt: skip
    head = ["candidate", "validation", "behind the best (paired 95 %)", "test", "out-of-time test", "operations a row"]
    tried = facts["calibration"]["tried"]
    kinds = [[kind, number(found["log_loss"], ".5f"), number(found["pr_auc"], ".4f")] for kind, found in tried.items()]
    note = (
        "PR-AUC. The choice is made on validation customers alone: who cannot be told from the best by a paired bootstrap "
        "ties, and the cheapest of those that tie is taken. Test columns are shown for the record."
    )
    kept = f"Kept: {facts['calibration']['kind']}, because {facts['calibration']['reason']}."
    boxes = grid(
        card("Calibration tried", table(["kind", "log loss, out of fold", "PR-AUC"], kinds, (1, 2)), note=kept),
        _cross_validation(facts),
    )
    table_card = card("", table(head, rows, numeric=range(1, 6)), note=note)
    return section("candidates", "Candidates compared", table_card, boxes)


def _cross_validation(facts: Facts) -> Markup:
    found = facts["cross_validation"]
    title = "Cross-validation"
    if not found:
        return card(title, absent("cross-validation", "The intervals above are of one split."))
    mean, deviation = found.get("mean", {}), found.get("deviation", {})
    rows = [
        [name.replace("_", " "), number(value, ".4f"), number(deviation.get(name), ".4f")]
        for name, value in mean.items()
        if isinstance(value, (int, float))
    ]
    return card(title, table(["metric", "mean", "deviation"], rows, (1, 2)), note=found.get("words"))


def _pr(facts: Facts) -> Markup:
    drawn = []
    for side, words, style in _there(facts):
        curve = facts["sides"][side]["curves"]
        drawn.append(Line(words, curve["pr"], style))
        base = curve["base_rate"]
        drawn.append(Line(f"random list, {words}", [(0.0, base), (1.0, base)], style, dashed=True))
    chart = lines("Precision over recall", _axis("recall: churners found"), _axis("precision: of those named"), drawn)
    return card("Precision and recall", chart, note="Dashed: a random list. The further up and right, the better.")


def _roc(facts: Facts) -> Markup:
    drawn = [Line(words, facts["sides"][side]["curves"]["roc"], style) for side, words, style in _there(facts)]
    drawn.append(Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True))
    chart = lines("ROC curve", _axis("kept customers named"), _axis("churners found"), drawn)
    return card(
        "ROC",
        chart,
        note="Dashed: a random list. Flatters where churners are few: read it beside precision and recall.",
    )


def _gains(facts: Facts) -> Markup:
    drawn = [Line(words, facts["sides"][side]["curves"]["gains"], style) for side, words, style in _there(facts)]
    drawn.append(Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True))
    x = Axis("customers contacted, riskiest first", 0.0, 1.0, percent, UNIT.ticks)
    chart = lines("Cumulative gains", x, Axis("churners found", 0.0, 1.0, percent, UNIT.ticks), drawn)
    note = "Cumulative gains; lift is how many times higher a curve stands than the dashed line, a random list."
    return card("Lift", chart, note=note)


def _calibration(facts: Facts) -> Markup:
    drawn = [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True)]
    for side, words, style in _there(facts):
        bins = facts["sides"][side]["curves"]["calibration"]
        points = [(b["predicted"], b["observed"]) for b in bins]
        band = [(b["predicted"], b["low"], b["high"]) for b in bins]
        drawn.append(Line(words, points, style, dots=True, band=band))
    chart = lines("Calibration", _axis("predicted probability"), _axis("churned share"), drawn)
    note = "Dashed: perfect. 15 bins of equal size; the band is the 95 % interval of each bin's share (Wilson)."
    return card("Calibration", chart, note=note)


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


def _there(facts: Facts) -> list[tuple[str, str, str]]:
    return [side for side in SIDES if side[0] in facts["sides"]]


def _axis(words: str) -> Axis:
    return Axis(words, UNIT.low, UNIT.high, UNIT.form, UNIT.ticks)
