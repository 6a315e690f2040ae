"""Three customers of the test rows, worked through: score, reasons, and what each column adds to the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from churn_assets.evaluation.metrics import Floats, Labels
from churn_assets.features.encode import encode_table
from churn_assets.reporting.model.facts import Step, WorkedCustomer, WorkedCustomers
from churn_assets.scoring.explain import Explainer
from churn_assets.scoring.scorer import Scorer
from churn_assets.training.feature_table import as_of_of, at_rows
from churn_assets.training.split import Index

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_STEPS = 6  # columns of a waterfall; the others are one step
EMPTY = 1e-6  # a step of fewer log-odds is none


def worked_customers(
    scorer: Scorer, customers: pa.Table, test: Index, churned: Labels, probability: Floats
) -> WorkedCustomers | None:
    """A customer of low, middle and high risk among the rows `test` of the table, with labels (n,) and probabilities
    (n,) of these rows. None if the bundle gives no reasons."""
    if not scorer.background:
        return None
    positions = typical_positions(probability, scorer.thresholds.value)
    explainer, rows = Explainer(scorer), test[list(positions.values())]
    chosen, as_of = customers.take(rows), at_rows(as_of_of(customers), rows)
    wanted = [column.name for column in scorer.contract.scoring_columns]
    matrix = scorer.features(encode_table(scorer.contract, chosen.select(wanted)), as_of)
    parts, scores = explainer.contributions(matrix), scorer.score_features(matrix)
    base = float(scorer.calibration.apply(np.array([parts.base]))[0])
    keys = [str(key) for key in chosen[scorer.contract.key.name].to_pylist()]
    rows_of_reasons = explainer.explain_table(chosen, as_of)
    totals = explainer.by_topic(parts.values)
    return WorkedCustomers(
        exact=explainer.exact,
        base=parts.base,
        base_probability=base,
        customers=[
            WorkedCustomer(
                risk=risk,
                customer=keys[i],
                churned=bool(churned[position]),
                probability=float(scores.probability[i]),
                log_odds=float(scores.margin[i]),
                predicted=bool(scores.probability[i] >= scorer.thresholds.value),
                steps=_steps(explainer.topics, totals[i]),
                reasons=[reason.text for reason in rows_of_reasons[i]],
            )
            for i, (risk, position) in enumerate(positions.items())
        ],
    )


def typical_positions(probability: Floats, threshold: float) -> dict[str, int]:
    """Positions of three different rows (of fewer rows, all): `low`, the median of those below the threshold; `middle`,
    the nearest to the threshold of the others; `high`, the median of those from the threshold on. Where one side is
    empty, its end of all rows stands for it."""
    order = np.argsort(probability, kind="stable")
    below, above = order[probability[order] < threshold], order[probability[order] >= threshold]
    low = int(below[(len(below) - 1) // 2] if len(below) else order[0])
    high = int(above[len(above) // 2] if len(above) else order[-1])
    others = [int(row) for row in order if row not in (low, high)]
    chosen = {"low": low}
    if others:
        chosen["middle"] = min(others, key=lambda row: abs(probability[row] - threshold))
    return {**chosen, "high": high} if high != low else chosen


def _steps(topics: tuple[str, ...], totals: Floats) -> list[Step]:
    """The contributions of topics (k,), the largest first, the smaller ones together at the end."""
    order = [int(i) for i in np.argsort(-np.abs(totals), kind="stable") if abs(totals[i]) > EMPTY]
    if len(order) <= SHOWN_STEPS + 1:  # a sum of one column would hide its name
        return [Step(topics[i], float(totals[i])) for i in order]
    shown, rest = order[:SHOWN_STEPS], [float(totals[i]) for i in order[SHOWN_STEPS:]]
    return [*(Step(topics[i], float(totals[i])) for i in shown), Step("", sum(rest), len(rest))]
