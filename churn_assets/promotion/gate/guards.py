"""What a challenger must not spoil on rows where it is compared: log-loss, segments, calibration.

Each is judged against the champion on the same rows, beyond noise. An absolute limit alone refuses nobody: where
customers have changed, a champion that exceeds it as well would otherwise stay for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from churn_assets.contract.limits import Release
from churn_assets.evaluation.bootstrap import DRAWS, interval, paired_difference, stratified_samples
from churn_assets.evaluation.metrics import Ranking, ece, ece_by_chance, ece_under
from churn_assets.promotion.gate.comparison import Comparison
from churn_assets.promotion.gate.evidence import Evidence, Labels
from churn_assets.promotion.records import Check

CALIBRATED_DRAWS = 200


def guard_checks(name: str, release: Release, comparison: Comparison, decides: bool, seed: int) -> Iterator[Check]:
    """Log-loss, segments and calibration; `decides` says whether the verdict depends on these rows alone."""
    yield log_loss_check(name, comparison, decides)
    yield _segments(name, release, comparison.evidence, seed)
    yield _calibration(name, release, comparison.evidence, seed)


def log_loss_check(name: str, comparison: Comparison, decides: bool) -> Check:
    """Mean log-loss does not rise: in plain numbers on rows that decide, on others not beyond noise."""
    point, (low, high) = comparison.log_loss_point, interval(comparison.log_loss)
    value = point if decides else low
    rule = "may not rise" if decides else "may not rise beyond noise"
    message = (
        f"on {comparison.evidence.name} log-loss changes by {point:+.4f} (95 % {low:+.4f} to {high:+.4f}) and {rule}"
    )
    return Check(f"{name}_log_loss", value, 0.0, value <= 0.0, message)


def _segments(name: str, release: Release, evidence: Evidence, seed: int) -> Check:
    """None may fall beyond the limit and noise: one churner can move a small segment by more than any limit, and of
    many segments some fall by chance."""
    limit, worst, worst_segment, fallen = release.segment_drop, 0.0, "", ""
    rankings = list(_rankings_by_segment(release.segment_rows, evidence))
    for segment, label, champion, challenger in rankings:
        drop = champion.pr_auc() - challenger.pr_auc()
        if drop > worst:
            worst, worst_segment = drop, segment
        if drop > limit and not fallen and _is_worse(champion, challenger, label, seed, len(rankings)):
            fallen = f"PR-AUC of '{segment}' ({len(label):,} rows) falls by {drop:.4f}"
    where = f"on {evidence.name}"
    if fallen:
        return Check(f"{name}_segments", worst, limit, False, f"{where} {fallen}, more than {limit:.4f} and noise")
    largest = f"the largest fall is {worst:.4f}, '{worst_segment}'" if worst_segment else "none falls"
    noise = ", which is noise" if worst > limit else ""
    message = f"{where}, {len(rankings)} segments of at least {release.segment_rows:,} rows: {largest}{noise}"
    return Check(f"{name}_segments", worst, limit, True, message)


def _rankings_by_segment(least: int, evidence: Evidence) -> Iterator[tuple[str, Labels, Ranking, Ranking]]:
    """Name, labels, champion and challenger of each segment with `least` rows and both classes."""
    for segment, rows in evidence.segments.items():
        label = evidence.churned[rows]
        if len(label) >= least and label.min() != label.max():
            yield segment, label, Ranking(label, evidence.champion[rows]), Ranking(label, evidence.challenger[rows])


def _is_worse(champion: Ranking, challenger: Ranking, label: Labels, seed: int, compared: int) -> bool:
    """Whether the 95 % interval of the difference lies below 0: of all segments `compared` together (Bonferroni)."""
    gain = paired_difference(stratified_samples(label, DRAWS, seed), challenger.pr_auc, champion.pr_auc)
    return float(np.quantile(gain.draws, 1.0 - 0.025 / compared)) < 0.0


def _calibration(name: str, release: Release, evidence: Evidence, seed: int) -> Check:
    """Over the limit, and over what chance gives, it may not be larger than the champion's beyond noise."""
    value, limit = ece(evidence.churned, evidence.challenger), release.max_ece
    message = f"on {evidence.name} the calibration error is {value:.4f}, allowed {limit:.4f}"
    if value <= limit:
        return Check(f"{name}_calibration", value, limit, True, message)
    by_chance = ece_by_chance(evidence.challenger, CALIBRATED_DRAWS, seed)
    limit = max(limit, float(np.quantile(by_chance, 0.975)))
    message += f" or what perfect probabilities may show on so few rows, {limit:.4f}"
    if value <= limit:
        return Check(f"{name}_calibration", value, limit, True, message)
    champion, low = ece(evidence.churned, evidence.champion), _ece_rise(evidence, seed)
    passed = low <= 0.0
    message += f"; the champion's is {champion:.4f}" + ", no smaller beyond noise: a warning" * passed
    return Check(f"{name}_calibration", value, limit, passed, message)


def _ece_rise(evidence: Evidence, seed: int) -> float:
    """The lower end of the 95 % interval of the challenger's calibration error minus the champion's."""
    draws = np.concatenate(
        [
            ece_under(evidence.churned, evidence.challenger, sample[None, :])
            - ece_under(evidence.churned, evidence.champion, sample[None, :])
            for sample in stratified_samples(evidence.churned, CALIBRATED_DRAWS, seed)
        ]
    )
    return interval(draws)[0]
