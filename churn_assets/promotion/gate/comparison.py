"""Two models on the same rows under the same bootstrap samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from churn_assets.evaluation.bootstrap import DRAWS, statistics_under, stratified_samples
from churn_assets.evaluation.metrics import Ranking, losses
from churn_assets.promotion.gate.evidence import Evidence

Floats = npt.NDArray[np.float64]

# Fewer churned or kept customers, and a percentile interval of PR-AUC says less than it seems to.
FEWEST = 30


@dataclass(frozen=True)
class Check:
    """One line of a verdict: what was looked at, the number found, its limit, and both in words."""

    check: str
    found: float | None
    limit: float | None
    passed: bool
    words: str


@dataclass(frozen=True)
class Compared:
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


def compare(evidence: Evidence, seed: int, draws: int = DRAWS) -> Compared | None:
    """Both models on the same rows under the same bootstrap samples; None if there are not FEWEST of each class."""
    if evidence.fewest < FEWEST:
        return None
    one, two = Ranking(evidence.churned, evidence.champion), Ranking(evidence.churned, evidence.challenger)
    surprise = losses(evidence.churned, evidence.challenger) - losses(evidence.churned, evidence.champion)
    samples = stratified_samples(evidence.churned, draws, seed)
    gains, rises = statistics_under(
        samples, lambda w: two.pr_auc(w) - one.pr_auc(w), lambda w: float(w @ surprise) / len(surprise)
    )
    return Compared(evidence, one.pr_auc(), two.pr_auc(), gains, rises, float(np.mean(surprise)))
