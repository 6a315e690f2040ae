"""Champion and challenger on the same rows under the same bootstrap samples, and whether the champion has fallen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from churn_assets.evaluation.bootstrap import DRAWS, interval, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Ranking, losses
from churn_assets.promotion.gate.evidence import Evidence, Floats

FEWEST = 30  # of churned or kept customers; with fewer, a percentile interval of PR-AUC is too narrow
SURE_QUANTILE = 0.005  # lower end of a 99 % interval
SURE_ERRORS = 2.576  # standard errors on either side of a 99 % interval


@dataclass(frozen=True)
class Comparison:
    """PR-AUC of both, and bootstrapped differences challenger minus champion, (draws,) each, of PR-AUC and of
    mean log-loss."""

    evidence: Evidence
    champion: float
    challenger: float
    pr_auc: Floats
    log_loss: Floats
    log_loss_point: float

    @property
    def gain(self) -> float:
        """The difference in PR-AUC."""
        return self.challenger - self.champion

    @property
    def lower_99(self) -> float:
        """The lower end of the 99 % interval of the difference in PR-AUC."""
        return float(np.quantile(self.pr_auc, SURE_QUANTILE))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference in PR-AUC."""
        return interval(self.pr_auc)


def compare(evidence: Evidence, seed: int, draws: int = DRAWS) -> Comparison | None:
    """Both models on the same rows under the same bootstrap samples; None if there are not FEWEST of each class."""
    if evidence.fewest < FEWEST:
        return None
    champion = Ranking(evidence.churned, evidence.champion)
    challenger = Ranking(evidence.churned, evidence.challenger)
    rise = losses(evidence.churned, evidence.challenger) - losses(evidence.churned, evidence.champion)
    gains, rises = statistics_under(
        stratified_samples(evidence.churned, draws, seed),
        lambda w: challenger.pr_auc(w) - champion.pr_auc(w),
        lambda w: float(w @ rise) / len(rise),
    )
    return Comparison(evidence, champion.pr_auc(), challenger.pr_auc(), gains, rises, float(np.mean(rise)))


@dataclass(frozen=True)
class Fall:
    """The champion on recent labels against the same champion on the frozen holdout.

    `recent` is its PR-AUC with the labels weighted to the holdout's share of churners, which PR-AUC depends on;
    `pr_auc` are (low, high) of the 95 % interval of `recent - holdout`. `excess` is by how much its log-loss exceeds
    what its own probabilities expect, more than it does on the holdout; `excess_99` is the 99 % interval.
    """

    holdout: float
    recent: float
    pr_auc: tuple[float, float]
    excess: float
    excess_99: tuple[float, float]

    @property
    def ranking(self) -> bool:
        """Whether its ranking has become worse beyond noise."""
        return self.pr_auc[1] < 0.0

    @property
    def probabilities(self) -> bool:
        """Whether its probabilities fit worse, beyond noise."""
        return self.excess_99[0] > 0.0

    @property
    def beyond_noise(self) -> bool:
        """Whether either has."""
        return self.ranking or self.probabilities


def fall(holdout: Evidence, recent: Evidence, seed: int, draws: int = DRAWS) -> Fall:
    """How the champion does on recent labels against the frozen holdout; both have FEWEST of each class."""
    share = holdout.churners / len(holdout.churned)
    recent_share = recent.churners / len(recent.churned)
    weight = np.where(recent.churned == 1, share / recent_share, (1 - share) / (1 - recent_share))
    old, new = (Ranking(rows.churned, rows.champion) for rows in (holdout, recent))
    (before,) = statistics_under(stratified_samples(holdout.churned, draws, seed), old.pr_auc)
    (after,) = statistics_under(
        stratified_samples(recent.churned, draws, seed + 1), lambda sample: new.pr_auc(sample * weight)
    )
    excess, error = zip(*(_excess_loss(rows) for rows in (recent, holdout)), strict=True)
    rise, spread = excess[0] - excess[1], SURE_ERRORS * float(np.hypot(*error))
    return Fall(old.pr_auc(), new.pr_auc(weight), interval(after - before), rise, (rise - spread, rise + spread))


def _excess_loss(rows: Evidence) -> tuple[float, float]:
    """Mean log-loss of the champion minus what its probabilities expect, and the standard error."""
    excess = losses(rows.churned, rows.champion) - losses(rows.champion, rows.champion)
    return float(np.mean(excess)), float(np.std(excess, ddof=1) / np.sqrt(len(excess)))
