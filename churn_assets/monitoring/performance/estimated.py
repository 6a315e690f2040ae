"""What PR-AUC, ROC-AUC and log-loss will be, before it is known who churned; and how past estimates came out.

A calibrated score is itself the share of churners among customers of that score, so expected hits and
misses of every cut of the ranking follow from the scores alone (confidence-based performance estimation:
Kivimäki et al., "Performance Estimation in Binary Classification Using Calibrated Confidence", 2025). That
is right as long as the scores stay calibrated: when customers of another kind come (covariate shift). It
sees nothing of what breaks the scores themselves, and is therefore never an all-clear: BLIND says so with
every figure, and `track_record` sets each estimate, as it was made then, beside the labels that came.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import interval
from churn_assets.evaluation.metrics import Ranking, log_loss
from churn_assets.storage.files import write_json

Floats = npt.NDArray[np.float64]

DRAWS = 200
LEAST_EXPECTED = 10  # of each class; as of labels, see `performance`
HISTORY = "estimates.json"
METRICS = ("pr_auc", "roc_auc", "log_loss")
BLIND = (
    "An estimate from the scores alone: it takes them for calibrated. It cannot see broken inputs (a column that "
    "turns to zeros can raise it while the model fails) nor a change in who churns (concept drift). Never an "
    "all-clear; only labels tell."
)


def estimate(score: Floats, floor: int, seed: int = 42) -> dict[str, Any]:
    """Expected metrics of scores (one a customer), each with `_low` and `_high`.

    The interval is where 95 % of labelled figures of these very customers would lie if the scores are
    calibrated; it does not hold what BLIND names. Below `floor` customers, or where fewer than
    LEAST_EXPECTED are expected to churn or to stay, the status is 'insufficient' and there is no figure.
    """
    rows, expected = len(score), float(np.sum(score))
    told = {"rows": rows, "blind_to": BLIND}
    if rows < floor or not LEAST_EXPECTED <= expected <= rows - LEAST_EXPECTED:
        words = f"insufficient: {rows:,} customers, {expected:.1f} of them expected to churn; {floor:,} are needed, "
        words += f"and {LEAST_EXPECTED} expected to churn and to stay"
        return {"status": "insufficient", **told, "words": words}
    found = _metrics(score, score)
    generator = np.random.default_rng(seed)
    labels = (_drawn(score, generator) for _ in range(DRAWS))
    drawn = [_metrics(label, score) for label in labels]
    for name in METRICS:
        found[f"{name}_low"], found[f"{name}_high"] = interval(np.array([row[name] for row in drawn]))
    words = f"PR-AUC estimated at {found['pr_auc']:.3f} ({found['pr_auc_low']:.3f} to {found['pr_auc_high']:.3f})"
    return {"status": "estimated", **told, **found, "churned_share": expected / rows, "words": words}


def _drawn(score: Floats, generator: np.random.Generator) -> Floats:
    while True:  # a draw of one class has no ranking; with an expected churner or more it is rare
        label = (generator.random(len(score)) < score).astype(np.float64)
        if 0 < np.sum(label) < len(label):
            return label


def _metrics(churned: Floats, score: Floats) -> dict[str, float]:
    """Metrics of labels that may be shares of a churner."""
    ranking = Ranking(churned, score)
    return {"pr_auc": ranking.pr_auc(), "roc_auc": ranking.roc_auc(), "log_loss": log_loss(churned, score)}


def read_history(folder: Path) -> tuple[list[dict[str, Any]], str | None]:
    """(estimates made so far, oldest first; None) of a contract's monitoring folder, or what is wrong with the file."""
    path = folder / HISTORY
    left = "past estimates are not shown and none is added: restore or remove it"
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError) as error:
        return [], f"{path} cannot be read ({' '.join(str(error).split())[:120]}); {left}"
    if not isinstance(stored, list) or not all(isinstance(row, dict) and "period" in row for row in stored):
        return [], f"{path} is no list of estimates; {left}"
    return stored, None


def remember(folder: Path, made: Mapping[str, Mapping[str, Any]], now: dt.datetime) -> list[dict[str, Any]]:
    """Add estimates by period to the history and return all of it; what is there already is never changed.

    A history that cannot be read is left as it is.
    """
    history, wrong = read_history(folder)
    known = {row["period"] for row in history}
    fresh = [
        {"period": period, "made_at": now.astimezone(dt.UTC).isoformat(timespec="seconds"), **_kept(told)}
        for period, told in made.items()
        if period not in known and told["status"] == "estimated"
    ]
    if wrong is None and fresh:
        history = [*history, *fresh]
        write_json(folder / HISTORY, history)
    return history


def _kept(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if isinstance(value, int | float)}


def track_record(history: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Past estimates of PR-AUC beside what labels said of the same period.

    `measured` are results of `performance.measure` by period; `labels_then` is how many labels there were
    already when the estimate was made (it uses none). `held` is whether the labelled figure lies in
    the estimate's interval; periods without a conclusive figure are counted as waiting.
    """
    rows = []
    for past in history:
        truth = measured.get(past["period"], {})
        if truth.get("status") != "ok":
            continue
        rows.append(
            {
                "period": past["period"],
                "made_at": past["made_at"],
                "estimated": past["pr_auc"],
                "estimated_low": past["pr_auc_low"],
                "estimated_high": past["pr_auc_high"],
                "labels_then": past.get("labels_then"),
                "labelled": truth["pr_auc"],
                "labelled_share": truth["rows"] / past["rows"],
                "off": past["pr_auc"] - truth["pr_auc"],
                "held": past["pr_auc_low"] <= truth["pr_auc"] <= past["pr_auc_high"],
            }
        )
    return {"rows": rows, "waiting": len(history) - len(rows), "words": _record_words(rows, len(history) - len(rows))}


def _record_words(rows: Sequence[Mapping[str, Any]], waiting: int) -> str:
    if not rows:
        return f"no past estimate has met its labels yet ({waiting} wait): how far to trust them here is unknown"
    off = [row["off"] for row in rows]
    held = sum(row["held"] for row in rows)
    worst = max(off, key=abs)
    return (
        f"of {len(rows)} past estimates {held} had the labelled PR-AUC in their interval; "
        f"off by {float(np.mean(off)):+.3f} on average, {worst:+.3f} at worst; {waiting} wait for labels"
    )
