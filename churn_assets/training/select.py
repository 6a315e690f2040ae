"""Model selection on out-of-fold scores, and the metrics of the chosen model on test rows.

Contenders are the candidates and the means of log-odds, in pairs and together, of the best three whose contributions
are exact: a blend's are then too. The best by PR-AUC is chosen, or the cheapest to serve of those that tie with it: the
difference is below `MATERIAL`, and its 95 % interval reaches 0 (it may be chance) or ends below `MATERIAL` (it does not
matter). A variant that was trained for recent customers takes its place if it is better on recent labels, out of fold,
by `MATERIAL` and beyond noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.errors import AssetStale, TrainingError
from churn_assets.evaluation.bootstrap import DRAWS, Difference, paired_difference, stratified_samples
from churn_assets.evaluation.metrics import Floats, Labels, Ranking, pr_auc, summary
from churn_assets.scoring.calibration import Calibration
from churn_assets.scoring.card import Comparison, RecentTraining
from churn_assets.scoring.explain import is_exact
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.training.calibrate import CalibrationChoice, choose_calibration, refit
from churn_assets.training.candidate import Candidate, Fitted, TrainedOn, judged_rows, recent_rows
from churn_assets.training.feature_table import TrainingData, View, features_hash, table_size, training_data
from churn_assets.training.profit import choose_thresholds
from churn_assets.training.split import Mask

if TYPE_CHECKING:
    import pyarrow as pa

MATERIAL = 0.001  # PR-AUC: a larger loss is never traded for a cheaper model, however uncertain it is
CHOICE_DRAWS = 200  # of each contender; they have all rows but the test rows
BEST = 3  # candidates that are blended
TRAINED_ON: dict[TrainedOn, str] = {
    "all": "trained on all rows alike",
    "weighted": "trained with recent labels weighted",
    "recent": "trained on recent labels alone",
}
TEST_PREFIXES = {"random": "test", "out_of_time": "oot"}  # of the metrics of a split's test rows


@dataclass(frozen=True)
class Choice:
    """The chosen contender with its decisions and metrics.

    `metrics` is flat: `validation_` (out of fold), `test_` and `oot_` before the names of `evaluation.metrics.summary`.
    `comparison` has a row a contender. `test` holds labels and probabilities of each split's test rows, `out_of_fold`
    those of the random split's training and validation rows (`Split.learn`), by models not trained on them. `recent`
    says what was made of recent labels, None without them; a model that was trained for them is calibrated on them,
    and `metrics` has their figures as `recent_`.
    """

    contender: Candidate
    reason: str
    comparison: list[Comparison]
    calibration: CalibrationChoice
    thresholds: dict[str, float]
    metrics: dict[str, float]
    test: dict[str, tuple[Labels, Floats]]
    out_of_fold: tuple[Labels, Floats]
    views: dict[str, View]
    seed: int
    recent: RecentTraining | None = None

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
    """Choose on out-of-fold scores, calibrate and set thresholds on them, then measure on test rows. `gain` is the mean
    of save rate x value, where these differ by customer. Raises TrainingError without a candidate, AssetStale for one
    that was trained on other features."""
    if not candidates:
        raise TrainingError("no candidate to choose from; materialise at least one *_candidate asset")
    data = training_data(contract, features, splits)
    field = contenders(candidates, features)
    label = data.churned[judged_rows("random", data.views["random"].split)]
    chosen, differences, reason = _select(label, field, seed)
    recent = recent_rows(data, features)
    chosen, training = _adapted(label, recent, chosen, candidates, seed)
    adapted = chosen.trained_on != "all"
    judged = recent if adapted else np.ones(len(label), dtype=bool)
    margin = chosen.fitted["random"].out_of_fold[0]
    calibration = choose_calibration(label[judged], margin[judged], seed)
    probability = calibration.calibration.apply(margin)
    thresholds = choose_thresholds(label[judged], probability[judged], contract.value, table_size(features), gain)
    test = {name: tested(chosen, name, data, calibration.calibration) for name in data.views}
    parts = {"validation": (label, probability)} | {TEST_PREFIXES[name]: part for name, part in test.items()}
    parts |= {"recent": (label[recent], probability[recent])} if adapted else {}
    metrics = _measured(parts, thresholds[contract.value.decide_by], seed) | resolution(test["random"][1])
    metrics["test_twin_share"] = twin_share(data.views["random"])
    comparison = [_compared(c, differences[c.name], data) for c in field]
    if not adapted:
        comparison = [_with_own_figures(c, metrics) if c.candidate == chosen.name else c for c in comparison]
    reason = training.reason if adapted and training else reason
    out_of_fold, views = (label, probability), data.views
    return Choice(
        chosen, reason, comparison, calibration, thresholds, metrics, test, out_of_fold, views, seed, training
    )


def _measured(parts: Mapping[str, tuple[Labels, Floats]], threshold: float, seed: int) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for prefix, (churned, scored) in parts.items():
        draws = CHOICE_DRAWS if prefix == "validation" else DRAWS
        values = summary(churned, scored, threshold, stratified_samples(churned, draws, seed))
        metrics |= {f"{prefix}_{name}": value for name, value in values.items()}
    return metrics


def resolution(probability: Floats) -> dict[str, float]:
    """How finely test rows are told apart: distinct scores, and rows that share the highest one."""
    rounded = np.round(probability, 6)
    return {
        "test_distinct_scores": float(len(np.unique(rounded))),
        "test_top_score_rows": float(np.sum(rounded == rounded.max())),
    }


def twin_share(view: View) -> float:
    """The share of test rows that equal a training or validation row in every feature, missing values included."""
    filled = np.ascontiguousarray(np.where(np.isnan(view.matrix), np.float32(np.inf), view.matrix) + np.float32(0.0))
    rows = filled.view(np.dtype((np.void, filled.shape[1] * filled.itemsize))).ravel()
    known = set(rows[view.split.learn].tolist())
    return float(np.mean([row in known for row in rows[view.split.test].tolist()]))


def contenders(candidates: Sequence[Candidate], features: pa.Table) -> list[Candidate]:
    """The candidates and the means of the best by out-of-fold PR-AUC, which have no parameters or metrics of their own.
    Raises AssetStale if one was trained on another feature table: its rows would be other customers."""
    present = features_hash(features)
    for candidate in candidates:
        if candidate.features_sha256 != present:
            raise AssetStale(
                f"{candidate.name}_candidate was trained on other customer_features, expected the current ones; "
                "run: churn run"
            )
    exact = [c for c in candidates if is_exact(c.fitted["random"].model)]  # a blend is explained by exact reasons
    best = [c.name for c in sorted(exact, key=lambda c: -c.metrics["random"]["pr_auc"])[:BEST]]
    parts = [c for c in candidates if c.name in best]
    groups = [group for size in range(2, len(parts) + 1) for group in combinations(parts, size)]
    return [*candidates, *(_blend(group, present) for group in groups)]


def variants(candidates: Sequence[Candidate]) -> list[Candidate]:
    """What the candidates became for recent customers, and the means of those that were trained on the same rows."""
    by_rows: dict[TrainedOn, list[Candidate]] = {}
    for candidate in candidates:
        for variant in candidate.variants:
            by_rows.setdefault(variant.trained_on, []).append(variant)
    blends = [_blend(same, same[0].features_sha256) for same in by_rows.values() if len(same) > 1]
    return [*(variant for same in by_rows.values() for variant in same), *blends]


def chosen_of(name: str, trained_on: str, candidates: Sequence[Candidate], features: pa.Table) -> Candidate | None:
    """The contender or variant that a card names, None if it is not among the candidates."""
    field = [*contenders(candidates, features), *variants(candidates)]
    return next((c for c in field if c.name == name and c.trained_on == trained_on), None)


def _adapted(
    label: Labels, recent: Mask, chosen: Candidate, candidates: Sequence[Candidate], seed: int
) -> tuple[Candidate, RecentTraining | None]:
    """The chosen model, or the variant that is better on recent labels beyond noise; and what was compared."""
    tried = variants(candidates)
    if not tried:
        return chosen, None
    churned = label[recent]
    metric = {id(c): _mean_pr_auc(churned, c.fitted["random"].out_of_fold[:, recent]) for c in (chosen, *tried)}
    best = max(tried, key=lambda c: metric[id(c)](None))
    samples = stratified_samples(churned, DRAWS, seed)
    gain = paired_difference(samples, metric[id(best)], metric[id(chosen)])
    low, high = gain.interval
    better = gain.point >= MATERIAL and low > 0.0
    difference = f"PR-AUC difference {gain.point:+.4f}, 95 % {low:+.4f} to {high:+.4f}, out of fold"
    reason = (
        f"{best.name}, {TRAINED_ON[best.trained_on]}, is {'' if better else 'not '}better beyond noise on the "
        f"{len(churned):,} recent labels than {chosen.name}, {TRAINED_ON['all']} ({difference})"
    )
    figures = {f"{c.name}, {TRAINED_ON[c.trained_on]}": metric[id(c)](None) for c in (chosen, *tried)}
    kept = best if better else chosen
    return kept, RecentTraining(kept.trained_on, reason, len(churned), figures)


def _blend(parts: Sequence[Candidate], features_sha256: str) -> Candidate:
    blended, weights = {}, [1.0 / len(parts)] * len(parts)
    for split in parts[0].fitted:
        models, margins = zip(*((c.fitted[split].model, c.fitted[split].out_of_fold) for c in parts), strict=True)
        blended[split] = Fitted(BlendModel(models, weights), np.mean(margins, axis=0), {})
    return Candidate(" + ".join(c.name for c in parts), features_sha256, {}, blended, 0.0, parts[0].trained_on)


def _select(label: Labels, contenders: list[Candidate], seed: int) -> tuple[Candidate, dict[str, Difference], str]:
    metric = {c.name: _mean_pr_auc(label, c.fitted["random"].out_of_fold) for c in contenders}
    best = max(contenders, key=lambda c: metric[c.name](None))
    samples = list(stratified_samples(label, CHOICE_DRAWS, seed))
    differences = {c.name: paired_difference(samples, metric[best.name], metric[c.name]) for c in contenders}
    tied = [c for c in contenders if _ties(differences[c.name])]
    chosen = min(tied, key=lambda c: c.cost)
    if chosen is best:
        reason = "no other ties with it" if len(tied) == 1 else "it is the cheapest of those that tie"
        return chosen, differences, f"{best.name} has the best out-of-fold PR-AUC and {reason}"
    low, high = differences[chosen.name].interval
    reason = (
        f"{chosen.name} ties with {best.name}, the best out of fold (PR-AUC difference "
        f"{differences[chosen.name].point:.4f}, 95 % {low:.4f} to {high:.4f}), and is cheaper to serve"
    )
    return chosen, differences, reason


def _mean_pr_auc(label: Labels, margins: Floats) -> Callable[[Floats | None], float]:
    """PR-AUC under row weights, the mean of the repeats."""
    rankings = [Ranking(label, margin) for margin in margins]
    return lambda weights: float(np.mean([ranking.pr_auc(weights) for ranking in rankings]))


def _ties(behind_best: Difference) -> bool:
    low, high = behind_best.interval
    return behind_best.point < MATERIAL and (low <= 0.0 or high < MATERIAL)


def tested(chosen: Candidate, name: str, data: TrainingData, calibration: Calibration) -> tuple[Labels, Floats]:
    """Labels and calibrated probabilities of a split's test rows; `calibration` is that of the random split."""
    split, fitted = data.views[name].split, chosen.fitted[name]
    if name != "random":
        # The same kind of calibration, fitted on the older customers that this split may use.
        calibration = refit(calibration, data.churned[judged_rows(name, split)], fitted.out_of_fold[0])
    return data.churned[split.test], calibration.apply(fitted.model.margin(data.views[name].matrix[split.test]))


def _with_own_figures(compared: Comparison, metrics: Mapping[str, float]) -> Comparison:
    """The chosen model's row with the figures of its card: calibration may tie scores that the margin tells apart. Out
    of fold it keeps the figure that it was compared by, the mean of the repeats."""
    own = {"test_pr_auc": "test_pr_auc", "oot_test_pr_auc": "oot_pr_auc"}
    return msgspec.structs.replace(compared, **{name: metrics[key] for name, key in own.items() if key in metrics})


def _compared(contender: Candidate, difference: Difference, data: TrainingData) -> Comparison:
    figures: dict[str, float] = {}
    for name, view in data.views.items():
        prefix = "oot_" if name == "out_of_time" else ""
        judged, test = judged_rows(name, view.split), view.split.test
        fitted = contender.fitted[name]
        figures[f"{prefix}validation_pr_auc"] = _mean_pr_auc(data.churned[judged], fitted.out_of_fold)(None)
        figures[f"{prefix}test_pr_auc"] = pr_auc(data.churned[test], fitted.model.margin(view.matrix[test]))
    low, high = difference.interval
    return Comparison(
        candidate=contender.name,
        cost=contender.cost,
        behind_best=difference.point,
        behind_best_low=low,
        behind_best_high=high,
        tied=_ties(difference),
        **figures,
    )
