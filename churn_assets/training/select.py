"""Model selection on validation rows, and the metrics of the chosen model on test rows.

Contenders are the candidates and the mean of the two best. Contenders whose validation PR-AUC does not differ
from the best in a paired bootstrap tie with it, and the cheapest of those to serve is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract
from churn_assets.errors import AssetStale, TrainingError
from churn_assets.evaluation.bootstrap import DRAWS, Difference, paired_difference, stratified_samples
from churn_assets.evaluation.metrics import Ranking, pr_auc, summary
from churn_assets.scoring.calibration import Calibration
from churn_assets.scoring.card import Comparison
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.training.calibrate import CalibrationChoice, choose_calibration, refit
from churn_assets.training.candidate import Candidate
from churn_assets.training.feature_table import TrainingData, View, features_hash, table_size, training_data
from churn_assets.training.profit import choose_thresholds

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]

# Share of bootstrap draws from which on a difference counts; one-sided, because the best is never tested as worse.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Contender:
    """A model a split, with validation log-odds a split; a blend's name is those of its candidates, joined by ' + '."""

    name: str
    models: dict[str, Model]
    margins: dict[str, Floats]

    @property
    def cost(self) -> float:
        """Estimated operations a row."""
        return self.models["random"].cost


@dataclass(frozen=True)
class Choice:
    """The chosen contender with its decisions and metrics.

    `metrics` is flat: `validation_`, `test_` and `oot_` before the names of `evaluation.metrics.summary`.
    `comparison` has a row a contender. `test` holds labels and probabilities of each split's test rows.
    """

    contender: Contender
    reason: str
    comparison: list[Comparison]
    calibration: CalibrationChoice
    thresholds: dict[str, float]
    metrics: dict[str, float]
    test: dict[str, tuple[npt.NDArray[np.int8], Floats]]
    views: dict[str, View]
    seed: int

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name


def choose_model(
    contract: Contract, candidates: Sequence[Candidate], features: pa.Table, splits: pa.Table, seed: int = 42
) -> Choice:
    """Choose on validation rows, calibrate and set thresholds on them, then measure on test rows.

    Raises TrainingError without a candidate, AssetStale for one that was trained on other features.
    """
    if not candidates:
        raise TrainingError("no candidate to choose from; materialise at least one *_candidate asset")
    data = training_data(contract, features, splits)
    check_candidates(candidates, features)
    field = contenders(candidates)
    view = data.views["random"]
    label = data.churned[view.split.validation]
    chosen, differences, reason = _select(label, field, seed)
    calibration = choose_calibration(label, chosen.margins["random"], seed)
    probability = calibration.calibration.apply(chosen.margins["random"])
    thresholds = choose_thresholds(label, probability, contract.value, table_size(features))
    threshold = thresholds[contract.value.decide_by]
    test = {name: tested(chosen, name, data, calibration.calibration) for name in data.views}
    metrics = _metrics(label, probability, test, threshold, seed)
    comparison = [_compared(c, differences[c.name], data) for c in field]
    return Choice(chosen, reason, comparison, calibration, thresholds, metrics, test, data.views, seed)


def check_candidates(candidates: Sequence[Candidate], features: pa.Table) -> None:
    """Raise AssetStale if a candidate was trained on another feature table: its rows would be other customers."""
    present = features_hash(features)
    for candidate in candidates:
        if candidate.features_sha256 != present:
            raise AssetStale(
                f"{candidate.name}_candidate was trained on other customer_features, expected the current ones; "
                "run: churn run"
            )


def contenders(candidates: Sequence[Candidate]) -> list[Contender]:
    """The candidates and the mean of the two best on validation rows."""
    alone = [
        Contender(
            c.name,
            {name: f.model for name, f in c.fitted.items()},
            {name: f.validation_margin for name, f in c.fitted.items()},
        )
        for c in candidates
    ]
    if len(alone) < 2:
        return alone
    best = sorted(candidates, key=lambda c: -c.metrics["random"]["pr_auc"])[:2]
    pair = [a for a in alone if a.name in {c.name for c in best}]
    blend = Contender(
        " + ".join(a.name for a in pair),
        {s: BlendModel([a.models[s] for a in pair], [0.5, 0.5]) for s in pair[0].models},
        {s: np.mean([a.margins[s] for a in pair], axis=0) for s in pair[0].margins},
    )
    return [*alone, blend]


def _select(
    label: npt.NDArray[Any], contenders: list[Contender], seed: int
) -> tuple[Contender, dict[str, Difference], str]:
    best = max(contenders, key=lambda c: pr_auc(label, c.margins["random"]))
    ranking = {c.name: Ranking(label, c.margins["random"]) for c in contenders}
    samples = list(stratified_samples(label, DRAWS, seed))
    differences = {
        c.name: paired_difference(samples, ranking[best.name].pr_auc, ranking[c.name].pr_auc) for c in contenders
    }
    tied = [c for c in contenders if c is best or differences[c.name].share_better < CONFIDENCE]
    chosen = min(tied, key=lambda c: c.cost)
    if chosen is best:
        reason = "no other ties with it" if len(tied) == 1 else "it is the cheapest of those that tie"
        return chosen, differences, f"{best.name} has the best validation PR-AUC and {reason}"
    gap = differences[chosen.name]
    low, high = gap.interval
    reason = (
        f"{chosen.name} ties with {best.name}, the best on validation (PR-AUC difference {gap.point:.4f}, "
        f"95 % {low:.4f} to {high:.4f}), and is cheaper to serve"
    )
    return chosen, differences, reason


def tested(
    chosen: Contender, name: str, data: TrainingData, fitted: Calibration
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Labels and calibrated probabilities of a split's test rows; `fitted` is the random split's calibration."""
    view = data.views[name]
    if name != "random":
        # The same kind of calibration, fitted on the older customers that this split may use.
        fitted = refit(fitted, data.churned[view.split.validation], chosen.margins[name])
    margin = chosen.models[name].margin(view.matrix[view.split.test])
    return data.churned[view.split.test], fitted.apply(margin)


def _metrics(
    label: npt.NDArray[Any],
    probability: Floats,
    test: dict[str, tuple[npt.NDArray[np.int8], Floats]],
    threshold: float,
    seed: int,
) -> dict[str, float]:
    parts = {"validation": (label, probability), "test": test["random"]}
    if "out_of_time" in test:
        parts["oot"] = test["out_of_time"]
    metrics: dict[str, float] = {}
    for prefix, (churned, scored) in parts.items():
        values = summary(churned, scored, threshold, stratified_samples(churned, DRAWS, seed))
        metrics.update({f"{prefix}_{name}": value for name, value in values.items()})
    return metrics


def _compared(contender: Contender, difference: Difference, data: TrainingData) -> Comparison:
    figures: dict[str, float] = {}
    for name, view in data.views.items():
        prefix = "oot_" if name == "out_of_time" else ""
        validation, test = view.split.validation, view.split.test
        figures[f"{prefix}validation_pr_auc"] = pr_auc(data.churned[validation], contender.margins[name])
        figures[f"{prefix}test_pr_auc"] = pr_auc(data.churned[test], contender.models[name].margin(view.matrix[test]))
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
