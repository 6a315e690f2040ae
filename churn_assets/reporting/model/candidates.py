"""Who was tried, how far behind the best, and how the choice was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.html.markup import Markup, absent, card, el, estimate, grid, number, section, table

Facts = Mapping[str, Any]


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
        "PR-AUC. The choice is made on validation customers alone: who cannot be told from the best by a paired "
        "bootstrap ties, and the cheapest of those that tie is taken. Test columns are shown for the record."
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
    if not found or "summary" not in found:
        why = (found or {}).get("missing") or "The intervals above are of one split."
        return card(title, absent("cross-validation", why))
    rows = [[row["model"], *(_scatter(row, m) for m in ("pr_auc", "roc_auc", "ece"))] for row in found["summary"]]
    note = ["Mean and deviation over folds of ", number(found["rows"], ","), " customers that are not test customers."]
    return card(title, table(["model", "PR-AUC", "ROC AUC", "calibration error"], rows, (1, 2, 3)), note=note)


def _scatter(row: Mapping[str, Any], metric: str) -> list[object]:
    mean, deviation = row[f"{metric}_mean"], row[f"{metric}_deviation"]
    return [number(mean, ".4f"), " ", el("small", "\N{PLUS-MINUS SIGN} ", number(deviation, ".4f"))]
