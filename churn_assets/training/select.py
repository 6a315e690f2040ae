"""Model selection on validation rows, and the metrics of the chosen model on test rows.

Contenders are the candidates and the mean of the two best. Contenders whose validation PR-AUC does not differ
from the best in a paired bootstrap tie with it, and the cheapest of those to serve is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.errors import AssetStale, TrainingError
from churn_assets.evaluation.bootstrap import DRAWS, Difference, paired_difference, stratified_samples
from churn_assets.evaluation.metrics import Floats, Labels, Ranking, pr_auc, summary
from churn_assets.scoring.calibration import Calibration
from churn_assets.scoring.card import Comparison
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.training.calibrate import CalibrationChoice, choose_calibration, refit
from churn_assets.training.candidate import Candidate, Fitted
from churn_assets.training.feature_table import TrainingData, View, features_hash, table_size, training_data
from churn_assets.training.profit import choose_thresholds

if TYPE_CHECKING:
    import pyarrow as pa

# Share of bootstrap draws from which on a difference counts; one-sided, because the best is never tested as worse.
CONFIDENCE = 0.95
TEST_PREFIXES = {"random": "test", "out_of_time": "oot"}  # of the metrics of a split's test rows


@dataclass(frozen=True)
class Choice:
    """The chosen contender with its decisions and metrics.

    `metrics` is flat: `validation_`, `test_` and `oot_` before the names of `evaluation.metrics.summary`.
    `comparison` has a row a contender. `test` holds labels and probabilities of each split's test rows.
    """

    contender: Candidate
    reason: str
    comparison: list[Comparison]
    calibration: CalibrationChoice
    thresholds: dict[str, float]
    metrics: dict[str, float]
    test: dict[str, tuple[Labels, Floats]]
    views: dict[str, View]
    seed: int

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name


def choose_model(
    contract: Contract,
    candidates: Sequence[Candidate],
    features: pa.Table,
    splits: pa.Table,
    seed: int = 42,
    gain: float | None = None,
) -> Choice:
    """Choose on validation rows, calibrate and set thresholds on them, then measure on test rows. `gain` is the mean of
    save rate x value, where these differ by customer. Raises TrainingError without a candidate, AssetStale for one that
    was trained on other features."""
    if not candidates:
        raise TrainingError("no candidate to choose from; materialise at least one *_candidate asset")
    data = training_data(contract, features, splits)
    field = contenders(candidates, features)
    label = data.churned[data.views["random"].split.validation]
    chosen, differences, reason = _select(label, field, seed)
    margin = chosen.fitted["random"].validation_margin
    calibration = choose_calibration(label, margin, seed)
    probability = calibration.calibration.apply(margin)
    thresholds = choose_thresholds(label, probability, contract.value, table_size(features), gain)
    threshold = thresholds[contract.value.decide_by]
    test = {name: tested(chosen, name, data, calibration.calibration) for name in data.views}
    metrics: dict[str, float] = {}
    parts = {"validation": (label, probability)} | {TEST_PREFIXES[name]: part for name, part in test.items()}
    for prefix, (churned, scored) in parts.items():
        values = summary(churned, scored, threshold, stratified_samples(churned, DRAWS, seed))
        metrics |= {f"{prefix}_{name}": value for name, value in values.items()}
    comparison = [_compared(c, differences[c.name], data) for c in field]
    comparison = [_with_own_figures(c, metrics) if c.candidate == chosen.name else c for c in comparison]
    return Choice(chosen, reason, comparison, calibration, thresholds, metrics, test, data.views, seed)


def contenders(candidates: Sequence[Candidate], features: pa.Table) -> list[Candidate]:
    """The candidates and the mean of the two best on validation rows, which has no parameters or metrics of its own.
    Raises AssetStale if one was trained on another feature table: its rows would be other customers."""
    present = features_hash(features)
    for candidate in candidates:
        if candidate.features_sha256 != present:
            raise AssetStale(
                f"{candidate.name}_candidate was trained on other customer_features, expected the current ones; "
                "run: churn run"
            )
    if len(candidates) < 2:
        return list(candidates)
    best = [c.name for c in sorted(candidates, key=lambda c: -c.metrics["random"]["pr_auc"])[:2]]
    pair = [c for c in candidates if c.name in best]
    blends = {}
    for split in pair[0].fitted:
        models, margins = zip(*((c.fitted[split].model, c.fitted[split].validation_margin) for c in pair), strict=True)
        blends[split] = Fitted(BlendModel(models, [0.5, 0.5]), np.mean(margins, axis=0), {})
    return [*candidates, Candidate(" + ".join(c.name for c in pair), present, {}, blends, 0.0)]


def _select(label: Labels, contenders: list[Candidate], seed: int) -> tuple[Candidate, dict[str, Difference], str]:
    metric = {c.name: Ranking(label, c.fitted["random"].validation_margin).pr_auc for c in contenders}
    best = max(contenders, key=lambda c: metric[c.name]())
    samples = list(stratified_samples(label, DRAWS, seed))
    differences = {c.name: paired_difference(samples, metric[best.name], metric[c.name]) for c in contenders}
    tied = [c for c in contenders if c is best or differences[c.name].share_better < CONFIDENCE]
    chosen = min(tied, key=lambda c: c.cost)
    if chosen is best:
        reason = "no other ties with it" if len(tied) == 1 else "it is the cheapest of those that tie"
        return chosen, differences, f"{best.name} has the best validation PR-AUC and {reason}"
    low, high = differences[chosen.name].interval
    reason = (
        f"{chosen.name} ties with {best.name}, the best on validation (PR-AUC difference "
        f"{differences[chosen.name].point:.4f}, 95 % {low:.4f} to {high:.4f}), and is cheaper to serve"
    )
    return chosen, differences, reason


def tested(chosen: Candidate, name: str, data: TrainingData, calibration: Calibration) -> tuple[Labels, Floats]:
    """Labels and calibrated probabilities of a split's test rows; `calibration` is that of the random split."""
    split, fitted = data.views[name].split, chosen.fitted[name]
    if name != "random":
        # The same kind of calibration, fitted on the older customers that this split may use.
        calibration = refit(calibration, data.churned[split.validation], fitted.validation_margin)
    return data.churned[split.test], calibration.apply(fitted.model.margin(data.views[name].matrix[split.test]))


def _with_own_figures(compared: Comparison, metrics: Mapping[str, float]) -> Comparison:
    """The chosen model's row with the figures of its card: calibration may tie scores that the margin tells apart."""
    own = {"validation_pr_auc": "validation_pr_auc", "test_pr_auc": "test_pr_auc", "oot_test_pr_auc": "oot_pr_auc"}
    return msgspec.structs.replace(compared, **{name: metrics[key] for name, key in own.items() if key in metrics})


def _compared(contender: Candidate, difference: Difference, data: TrainingData) -> Comparison:
    figures: dict[str, float] = {}
    for name, view in data.views.items():
        prefix = "oot_" if name == "out_of_time" else ""
        validation, test = view.split.validation, view.split.test
        fitted = contender.fitted[name]
        figures[f"{prefix}validation_pr_auc"] = pr_auc(data.churned[validation], fitted.validation_margin)
        figures[f"{prefix}test_pr_auc"] = pr_auc(data.churned[test], fitted.model.margin(view.matrix[test]))
    low, high = difference.interval
    return Comparison(
        candidate=contender.name,
        cost=contender.cost,
        behind_best=difference.point,
        behind_best_low=low,
        behind_best_high=high,
        tied=difference.share_better < CONFIDENCE,
        **figures,
    )
