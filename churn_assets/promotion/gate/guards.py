"""What must not get worse while the ranking gets better: log-loss, segments, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.policy import Release
from churn_assets.evaluation.bootstrap import DRAWS, interval, paired_difference, stratified_samples
from churn_assets.evaluation.calibration import ece, ece_by_chance
from churn_assets.evaluation.metrics import Ranking
from churn_assets.promotion.gate.comparison import Check, Compared
from churn_assets.promotion.gate.evidence import Evidence

CALIBRATED_DRAWS = 200


def guards(name: str, release: Release, compared: Compared, decides: bool, seed: int) -> Iterator[Check]:
    """The checks of the rows `name`; `decides` says whether the verdict hangs on these rows."""
    yield _loss(name, compared, decides)
    yield _segments(name, release, compared.evidence, seed)
    yield _calibration(name, release, compared.evidence, seed)


def _loss(name: str, compared: Compared, decides: bool) -> Check:
    point, (low, high) = compared.log_loss_point, interval(compared.log_loss)
    found = point if decides else low
    told = f"log-loss changes by {point:+.4f} (95 % {low:+.4f} to {high:+.4f})"
    rule = "may not rise" if decides else "may not rise beyond noise"
    return Check(f"{name}_log_loss", found, 0.0, found <= 0.0, f"on {compared.evidence.name} {told} and {rule}")


def _segments(name: str, release: Release, evidence: Evidence, seed: int) -> Check:
    limit, worst, fallen, looked = release.segment_drop, 0.0, "", 0
    told = ""
    for words, rows in evidence.segments.items():
        label = evidence.churned[rows]
        if len(label) < release.segment_rows or label.min() == label.max():
            continue
        looked += 1
        one, two = Ranking(label, evidence.champion[rows]), Ranking(label, evidence.challenger[rows])
        drop = one.pr_auc() - two.pr_auc()
        if drop > worst:
            worst, told = drop, words
        if drop > limit and not fallen and _is_worse(one, two, label, seed):
            fallen = f"PR-AUC of '{words}' ({len(label):,} rows) falls by {drop:.4f}"
    where = f"on {evidence.name}"
    if fallen:
        return Check(f"{name}_segments", worst, limit, False, f"{where} {fallen}, more than {limit:.4f} and noise")
    most = f"the largest fall is {worst:.4f}, '{told}'" if told else "none falls"
    noise = ", which is noise" if worst > limit else ""
    counted = f"{where}, {looked} segments of at least {release.segment_rows:,} rows: {most}{noise}"
    return Check(f"{name}_segments", worst, limit, True, counted)


def _is_worse(one: Ranking, two: Ranking, label: npt.NDArray[Any], seed: int) -> bool:
    difference = paired_difference(stratified_samples(label, DRAWS, seed), two.pr_auc, one.pr_auc)
    return difference.interval[1] < 0.0


def _calibration(name: str, release: Release, evidence: Evidence, seed: int) -> Check:
    found, limit = ece(evidence.churned, evidence.challenger), release.max_ece
    words = f"on {evidence.name} the calibration error is {found:.4f}, allowed {limit:.4f}"
    if found > limit:
        by_chance = ece_by_chance(evidence.challenger, CALIBRATED_DRAWS, seed)
        limit = max(limit, float(np.quantile(by_chance, 0.975)))
        words += f" or what perfect probabilities may show on so few rows, {limit:.4f}"
    return Check(f"{name}_calibration", found, limit, found <= limit, words)
