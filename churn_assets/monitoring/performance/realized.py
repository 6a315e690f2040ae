"""What scores were worth, once it is known who churned: only from final labels, never from few of them.

Metrics are those of `training.evaluate`, one row a customer. Below `floor` rows, or with too few of a
class, there are counts and words and no metric. The 95 % intervals of `measure` are a percentile bootstrap
(Efron & Tibshirani, 1993) over customers regardless of label, because how many of them churned is chance
too: draws stratified by label held the true PR-AUC in 88 % of samples of 600 rows and 92 % of 2,000 (150
samples each of known probabilities), these in 92 % and 98 %. `compare` holds the share of churners fixed, so
its draws are stratified, as the card's are (94 % and 95 %).

Average precision depends on the share of churners: the same ranking has .84 among 20 % churners and far
less among 5 %. A test set and live traffic rarely have the same share, so `compare` weights the labelled
rows to the share of the card before it subtracts (importance weights of a prior shift: Saerens et al.,
Neural Computation 2002). What is left is a worse ranking within the classes; a change of who the
customers are is part of it, and the weights cannot take that apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import interval, samples, statistics_under, stratified_samples
from churn_assets.evaluation.calibration import ece_by_chance
from churn_assets.evaluation.metrics import Ranking, summary
from churn_assets.monitoring.performance.outcomes import Outcomes

Floats = npt.NDArray[np.float64]

DRAWS = 1000
FEWER_DRAWS = 200
MANY_ROWS = 10_000  # from here on intervals are narrow, and fewer draws place their ends well enough
LEAST_OF_A_CLASS = 10  # churned, and kept: of fewer, a bootstrap knows too little to give an interval
MOST_ROWS = 50_000  # of a metric; more would fill the memory with draws and move no digit that is shown
_CALIBRATED_DRAWS = 200

OK, INSUFFICIENT, ONE_CLASS = "ok", "insufficient", "one_class"
MEASURED = ("pr_auc", "roc_auc", "log_loss", "brier")


def measure(outcomes: Outcomes, floor: int, capacity_share: float | None = None, seed: int = 42) -> dict[str, Any]:
    """Every metric of rows (one a customer), or why there is none; equal rows and seed give equal numbers.

    Keys: `status`, `rows`, `churned`, `contacted`, `words`, and if the status is ok the metrics with `_low`
    and `_high`, `ece` with the largest that calibrated scores would show by chance, `calibration`
    (in the large: churned share minus mean score, with a normal 95 % interval) and `at_capacity`
    (precision among the `capacity_share` of rows with the highest scores; None without a capacity).
    Of more than MOST_ROWS rows the newest are measured; `older` counts the others.
    """
    older, outcomes = max(0, len(outcomes) - MOST_ROWS), outcomes.newest(MOST_ROWS)
    rows, churned = len(outcomes), int(np.sum(outcomes.churned))
    found = {"rows": rows, "churned": churned, "contacted": int(np.sum(outcomes.contacted)), "older": older}
    status, words = _conclusive(rows, churned, floor)
    if status != OK:
        return {"status": status, **found, "words": words}
    label, score = outcomes.churned.astype(np.float64), outcomes.score
    weights = _drawn(outcomes.churned, seed)
    told = summary(label, score, 1.0, weights)
    metrics = {f"{name}{end}": told[f"{name}{end}"] for name in MEASURED for end in ("", "_low", "_high")}
    return {
        "status": OK,
        **found,
        **metrics,
        "churned_share": told["churn_rate"],
        "ece": told["ece"],
        "ece_by_chance": float(np.quantile(ece_by_chance(score, _CALIBRATED_DRAWS, seed), 0.95)),
        "calibration": in_the_large(label, score),
        "at_capacity": None if capacity_share is None else _at_capacity(label, score, capacity_share, weights),
        "words": f"PR-AUC {told['pr_auc']:.3f} (95 % {told['pr_auc_low']:.3f} to {told['pr_auc_high']:.3f}) of "
        f"{rows:,} customers, {churned:,} of them churned",
    }


def in_the_large(churned: Floats, score: Floats) -> dict[str, float]:
    """Churned share minus mean score, with its normal 95 % interval over rows; 0 if calibrated."""
    off = churned - score
    gap, spread = float(np.mean(off)), 1.96 * float(np.std(off, ddof=1)) / len(off) ** 0.5
    return {
        "churned_share": float(np.mean(churned)),
        "mean_score": float(np.mean(score)),
        "gap": gap,
        "low": gap - spread,
        "high": gap + spread,
    }


def compare(
    outcomes: Outcomes, card: Mapping[str, float], drop: float, floor: int, split: str = "test", seed: int = 42
) -> dict[str, Any]:
    """PR-AUC of labelled rows against the card's, both at the card's churned share.

    `card` has `<split>_pr_auc`, its `_low` and `_high`, and `<split>_churn_rate`. `dropped` is true only if
    the whole labelled interval lies below the whole interval of the card and the fall is at least `drop`:
    sampling alone does that in far less than 2.5 % of looks. Without a conclusion it is false, and
    `words` say why.
    """
    outcomes = outcomes.newest(MOST_ROWS)
    rows, churned = len(outcomes), int(np.sum(outcomes.churned))
    status, words = _conclusive(rows, churned, floor)
    told: dict[str, Any] = {"status": status, "rows": rows, "churned": churned, "dropped": False, "words": words}
    if status != OK:
        return told
    share, target = churned / rows, card[f"{split}_churn_rate"]
    each = np.where(outcomes.churned, target / share, (1.0 - target) / (1.0 - share))
    ranking = Ranking(outcomes.churned, outcomes.score)
    (draws,) = statistics_under(
        stratified_samples(outcomes.churned, _draws(rows), seed), lambda weight: ranking.pr_auc(weight * each)
    )
    low, high = interval(draws)
    then = {"pr_auc": card[f"{split}_pr_auc"], "low": card[f"{split}_pr_auc_low"], "high": card[f"{split}_pr_auc_high"]}
    now = {"pr_auc": ranking.pr_auc(each), "low": low, "high": high}
    fall = then["pr_auc"] - now["pr_auc"]
    dropped = bool(now["high"] < then["low"] and fall >= drop)
    return {
        **told,
        "dropped": dropped,
        "card": {**then, "churned_share": target},
        "labelled": {**now, "churned_share": target},
        "as_it_was": {"pr_auc": ranking.pr_auc(), "churned_share": share},
        "fall": fall,
        "limit": drop,
        "words": _compared(then, now, target, share, rows, dropped) + _treated(outcomes),
    }


def _compared(
    then: Mapping[str, float], now: Mapping[str, float], target: float, share: float, rows: int, dropped: bool
) -> str:
    verdict = (
        "has fallen beyond noise"
        if dropped
        else "is lower, within noise or the contract's monitoring.pr_auc_drop"
        if now["pr_auc"] < then["pr_auc"]
        else "holds"
    )
    labelled, card = (f"{told['pr_auc']:.3f} ({told['low']:.3f} to {told['high']:.3f})" for told in (now, then))
    return (
        f"labelled PR-AUC {verdict}: {labelled} on {rows:,} customers, card {card}; "
        f"both at the card's {target:.1%} churned, {share:.1%} of the labelled customers did"
    )


def _treated(outcomes: Outcomes) -> str:
    """What contacting does to the figure: a churner who was talked into staying counts as a false alarm."""
    count = int(np.sum(outcomes.contacted))
    return f"; {count:,} were contacted, and whoever stayed for that reason counts against the model" if count else ""


def _conclusive(rows: int, churned: int, floor: int) -> tuple[str, str]:
    if rows < floor:
        return INSUFFICIENT, f"insufficient: {rows:,} customers with a final label, {floor:,} are needed for a figure"
    if churned in (0, rows):
        which = "none of them churned" if not churned else "all of them churned"
        return ONE_CLASS, f"{rows:,} customers with a final label and {which}: a ranking cannot be measured"
    if min(churned, rows - churned) < LEAST_OF_A_CLASS:
        counts = f"{churned:,} churned and {rows - churned:,} kept"
        return INSUFFICIENT, f"insufficient: {counts}, {LEAST_OF_A_CLASS} of each are needed for a figure"
    return OK, ""


def _draws(rows: int) -> int:
    return DRAWS if rows <= MANY_ROWS else FEWER_DRAWS


def _drawn(churned: npt.NDArray[np.bool_], seed: int) -> Floats:
    """Multiplicities of draws of customers (draws, rows); the rare draw without one of the classes is left out."""
    rows = len(churned)
    weights = samples(rows, _draws(rows), seed)
    hits = weights @ churned
    return np.asarray(weights[(hits > 0) & (hits < rows)])


def _at_capacity(churned: Floats, score: Floats, share: float, weights: Floats) -> dict[str, float]:
    ranking = Ranking(churned, score)

    def precision(weight: Floats) -> float:
        listed = share * float(np.sum(weight))
        total, hits = ranking.counts(weight)
        # Customers of equal score are on the list in proportion.
        return float(np.interp(listed, np.append(0.0, total), np.append(0.0, hits)) / listed)

    low, high = interval(statistics_under(weights, precision)[0])
    point = precision(np.ones(len(score)))
    return {"share": share, "customers": share * len(score), "precision": point, "low": low, "high": high}
