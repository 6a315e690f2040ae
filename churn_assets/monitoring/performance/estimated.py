"""Estimated performance: PR-AUC, ROC-AUC and log-loss before it is known who churned, and how estimates came out.

A calibrated score is itself the share of churners among customers of that score, so expected hits and misses of every
cut of the ranking follow from the scores alone (confidence-based performance estimation: Kivimäki et al., "Performance
Estimation in Binary Classification Using Calibrated Confidence", 2025). What breaks the scores themselves it cannot
detect: BLIND says so with every figure, and `track_record` sets each estimate beside the labels that came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import Figure, interval
from churn_assets.evaluation.metrics import Ranking, log_loss
from churn_assets.monitoring.performance.realized import RealizedPerformance
from churn_assets.monitoring.windows import VERSION, parse_report, to_json
from churn_assets.storage.files import write_json

Floats = npt.NDArray[np.float64]

DRAWS = 200
LEAST_EXPECTED = 10  # of each class, as of labels in `realized`
HISTORY = "estimates.json"
METRICS = ("pr_auc", "roc_auc", "log_loss")
BLIND = (
    "An estimate from the scores alone: it takes them for calibrated. It cannot detect broken inputs (a column that "
    "turns to zeros can raise it while the model fails) nor a change in who churns (concept drift). Never an "
    "all-clear; only labels tell."
)


@dataclass(frozen=True)
class EstimatedMetrics:
    """The interval is where 95 % of labelled figures of these very customers would lie if scores are calibrated."""

    pr_auc: Figure
    roc_auc: Figure
    log_loss: Figure
    churned_share: float


@dataclass(frozen=True)
class EstimatedPerformance:
    """Expected metrics of `rows` customers; None if the status is 'insufficient', and `message` says why.

    `made_at` is set for an estimate of a closed period: it is the one that was made first. `blind_to` is BLIND.
    """

    status: Literal["estimated", "insufficient"]
    message: str
    rows: int
    metrics: EstimatedMetrics | None = None
    made_at: str | None = None
    blind_to: str = BLIND


@dataclass(frozen=True)
class PastEstimate:
    """One row of `estimates.json`: what was estimated for a closed period, and how many labels it had then."""

    period: str
    made_at: str
    rows: int
    metrics: EstimatedMetrics
    labels_then: int | None = None
    version: int = VERSION

    @property
    def estimate(self) -> EstimatedPerformance:
        """The estimate as it was made."""
        message = _describe(self.metrics.pr_auc)
        return EstimatedPerformance("estimated", message, self.rows, self.metrics, self.made_at)


@dataclass(frozen=True)
class EstimateOutcome:
    """A past estimate of PR-AUC beside the labelled figure of the same period, which `labelled_share` of it had.

    `error` is estimated minus labelled; `held` is whether the labelled figure lies in the estimate's interval.
    """

    period: str
    made_at: str
    estimated: Figure
    labelled: float
    labelled_share: float
    error: float
    held: bool
    labels_then: int | None


@dataclass(frozen=True)
class TrackRecord:
    """How past estimates came out; `waiting` have no conclusive labelled figure yet."""

    rows: tuple[EstimateOutcome, ...]
    waiting: int
    message: str


def estimate(score: Floats, floor: int, seed: int = 42) -> EstimatedPerformance:
    """Expected metrics of scores (one a customer). Below `floor` customers, or where fewer than LEAST_EXPECTED are
    expected to churn or to stay, there are none."""
    rows, expected = len(score), float(np.sum(score))
    if rows < floor or not LEAST_EXPECTED <= expected <= rows - LEAST_EXPECTED:
        message = (
            f"{rows:,} customers, {expected:.1f} of them expected to churn; at least {floor:,} are needed, "
            f"and {LEAST_EXPECTED} expected to churn and to stay"
        )
        return EstimatedPerformance("insufficient", message, rows)
    values = _metrics(score, score)
    generator = np.random.default_rng(seed)
    drawn = [_metrics(_draw_labels(score, generator), score) for _ in range(DRAWS)]
    figures = {name: Figure(values[name], *interval(np.array([row[name] for row in drawn]))) for name in METRICS}
    metrics = EstimatedMetrics(**figures, churned_share=expected / rows)
    return EstimatedPerformance("estimated", _describe(metrics.pr_auc), rows, metrics)


def _describe(pr_auc: Figure) -> str:
    return f"PR-AUC estimated at {pr_auc}"


def _draw_labels(score: Floats, generator: np.random.Generator) -> Floats:
    while True:  # a draw of one class has no ranking; with an expected churner or more it is rare
        label = (generator.random(len(score)) < score).astype(np.float64)
        if 0 < np.sum(label) < len(label):
            return label


def _metrics(churned: Floats, score: Floats) -> dict[str, float]:
    """Metrics of labels that may be shares of a churner."""
    ranking = Ranking(churned, score)
    return {"pr_auc": ranking.pr_auc(), "roc_auc": ranking.roc_auc(), "log_loss": log_loss(churned, score)}


def read_history(folder: Path) -> tuple[list[PastEstimate], str | None]:
    """(estimates made so far, oldest first; None) of a contract's monitoring folder, or what is wrong with the file."""
    path = folder / HISTORY
    try:
        return [parse_report(row, PastEstimate) for row in msgspec.json.decode(path.read_bytes(), type=list)], None
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError) as error:
        remedy = "past estimates are not shown and none is added: restore or remove it"
        return [], f"{path} cannot be read ({' '.join(str(error).split())[:120]}); {remedy}"


def append_history(folder: Path, estimates: Sequence[PastEstimate]) -> list[PastEstimate]:
    """Add estimates to the history and return all of it; a period that is there already is never changed. A history
    that cannot be read is left as it is."""
    history, problem = read_history(folder)
    known = {past.period for past in history}
    new = [past for past in estimates if past.period not in known]
    if problem is None and new:
        history = [*history, *new]
        write_json(folder / HISTORY, [to_json(past) for past in history])
    return history


def track_record(history: Sequence[PastEstimate], realized: Mapping[str, RealizedPerformance]) -> TrackRecord:
    """Past estimates of PR-AUC beside the labelled figures of the same periods; `realized` by period."""
    rows = []
    for past in history:
        truth = realized.get(past.period)
        if truth is None or truth.metrics is None:
            continue
        estimated, labelled = past.metrics.pr_auc, truth.metrics.pr_auc.value
        share, error = truth.rows / past.rows, estimated.value - labelled
        held = estimated.low <= labelled <= estimated.high
        rows.append(
            EstimateOutcome(past.period, past.made_at, estimated, labelled, share, error, held, past.labels_then)
        )
    waiting = len(history) - len(rows)
    return TrackRecord(tuple(rows), waiting, _describe_track(rows, waiting))


def _describe_track(rows: Sequence[EstimateOutcome], waiting: int) -> str:
    if not rows:
        return f"no past estimate has its labels yet ({waiting} wait): how far to trust them here is unknown"
    errors = [row.error for row in rows]
    return (
        f"of {len(rows)} past estimates {sum(row.held for row in rows)} had the labelled PR-AUC in their interval; "
        f"error {float(np.mean(errors)):+.3f} on average, {max(errors, key=abs):+.3f} at worst; "
        f"{waiting} wait for labels"
    )
