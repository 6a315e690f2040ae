"""Estimated performance: PR-AUC, ROC-AUC and log-loss before it is known who churned, and how estimates came out.

A calibrated score is itself the share of churners among customers of that score, so expected hits and
misses of every cut of the ranking follow from the scores alone (confidence-based performance estimation:
Kivimäki et al., "Performance Estimation in Binary Classification Using Calibrated Confidence", 2025). That
is right as long as the scores stay calibrated: when customers of another kind come (covariate shift). It
detects nothing of what breaks the scores themselves, and is therefore never an all-clear: BLIND says so with
every figure, and `track_record` sets each estimate, as it was made then, beside the labels that came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import interval
from churn_assets.evaluation.metrics import Ranking, log_loss
from churn_assets.monitoring.performance.realized import Figure, RealizedPerformance
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
    churned_share: float
    pr_auc: float
    pr_auc_low: float
    pr_auc_high: float
    roc_auc: float
    roc_auc_low: float
    roc_auc_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    labels_then: int | None = None

    @classmethod
    def of(cls, period: str, made_at: str, estimate: EstimatedPerformance, labels_then: int) -> PastEstimate:
        """The row to keep of an estimate that has metrics."""
        metrics = estimate.metrics
        assert metrics is not None
        pr_auc, roc_auc, log_loss = metrics.pr_auc, metrics.roc_auc, metrics.log_loss
        return cls(
            *(period, made_at, estimate.rows, metrics.churned_share),
            *(pr_auc.value, pr_auc.low, pr_auc.high),
            *(roc_auc.value, roc_auc.low, roc_auc.high),
            *(log_loss.value, log_loss.low, log_loss.high),
            labels_then,
        )

    @property
    def estimate(self) -> EstimatedPerformance:
        """The estimate as it was made."""
        pr_auc = Figure(self.pr_auc, self.pr_auc_low, self.pr_auc_high)
        roc_auc = Figure(self.roc_auc, self.roc_auc_low, self.roc_auc_high)
        log_loss = Figure(self.log_loss, self.log_loss_low, self.log_loss_high)
        metrics = EstimatedMetrics(pr_auc, roc_auc, log_loss, self.churned_share)
        return EstimatedPerformance("estimated", _describe(pr_auc), self.rows, metrics, self.made_at)


@dataclass(frozen=True)
class EstimateOutcome:
    """A past estimate of PR-AUC beside the labelled figure of the same period.

    `labelled_share` of the customers had a label; `error` is estimated minus labelled; `held` is whether the labelled
    figure lies in the estimate's interval. `labels_then` were there when the estimate was made (it uses none).
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
    """Expected metrics of scores (one a customer).

    Below `floor` customers, or where fewer than LEAST_EXPECTED are expected to churn or to stay, there are none.
    """
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
    remedy = "past estimates are not shown and none is added: restore or remove it"
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError) as error:
        return [], f"{path} cannot be read ({' '.join(str(error).split())[:120]}); {remedy}"
    try:
        return msgspec.convert(stored, list[PastEstimate]), None
    except msgspec.ValidationError as error:
        return [], f"{path} is not a list of estimates ({error}); {remedy}"


def append_history(folder: Path, estimates: Sequence[PastEstimate]) -> list[PastEstimate]:
    """Add estimates to the history and return all of it; a period that is there already is never changed.

    A history that cannot be read is left as it is.
    """
    history, problem = read_history(folder)
    known = {past.period for past in history}
    new = [past for past in estimates if past.period not in known]
    if problem is None and new:
        history = [*history, *new]
        write_json(folder / HISTORY, [asdict(past) for past in history])
    return history


def track_record(history: Sequence[PastEstimate], realized: Mapping[str, RealizedPerformance]) -> TrackRecord:
    """Past estimates of PR-AUC beside the labelled figures of the same periods; `realized` by period."""
    rows = []
    for past in history:
        truth = realized.get(past.period)
        if truth is None or truth.metrics is None:
            continue
        labelled = truth.metrics.pr_auc.value
        rows.append(
            EstimateOutcome(
                period=past.period,
                made_at=past.made_at,
                estimated=Figure(past.pr_auc, past.pr_auc_low, past.pr_auc_high),
                labelled=labelled,
                labelled_share=truth.rows / past.rows,
                error=past.pr_auc - labelled,
                held=past.pr_auc_low <= labelled <= past.pr_auc_high,
                labels_then=past.labels_then,
            )
        )
    waiting = len(history) - len(rows)
    return TrackRecord(tuple(rows), waiting, _describe_record(rows, waiting))


def _describe_record(rows: Sequence[EstimateOutcome], waiting: int) -> str:
    if not rows:
        return f"no past estimate has its labels yet ({waiting} wait): how far to trust them here is unknown"
    errors = [row.error for row in rows]
    held = sum(row.held for row in rows)
    return (
        f"of {len(rows)} past estimates {held} had the labelled PR-AUC in their interval; "
        f"error {float(np.mean(errors)):+.3f} on average, {max(errors, key=abs):+.3f} at worst; "
        f"{waiting} wait for labels"
    )
