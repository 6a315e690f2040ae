"""Which features move the score of a model, how much, and in which direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from churn_assets.evaluation.metrics import Floats, Labels, Ranking
from churn_assets.features.compile import FeatureSpec, Matrix
from churn_assets.reporting.model.facts import Dependence, FeatureImportance, FeatureSummary, Importance, Level
from churn_assets.scoring.explain import BACKGROUND_ROWS, contributions, is_exact, reference
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import BlendModel

ROWS = 2000  # test customers that are explained
NETWORK_ROWS = 1500
REPEATS = 2  # shufflings of a feature
TOP = 6  # features with a chart of their own
DOTS = 400
GRID = 15
SUMMARY_FEATURES, SUMMARY_ROWS = 12, 200  # of the SHAP summary
LEAST_SUMMARY_ROWS = 20
NETWORK_STEPS = 150_000  # rows that a network scores for its summary: a second

SHAPLEY = (
    "Mean absolute Shapley value (SHAP) on test customers, in log-odds: how far a feature moves a customer's score; "
    "computed exactly for this model."
)
PERMUTED = (
    "PR-AUC lost on test customers when the feature's values are shuffled among them (permutation importance), because "
    "exact Shapley values of a neural network cannot be computed. Features with the same information replace each "
    "other and look less important."
)


def importance(
    model: Model, specs: Sequence[FeatureSpec], train: Matrix, test: Matrix, churned: Labels, seed: int = 42
) -> Importance:
    """Global importance of every feature, the largest first, and the dependence on the first `TOP`.

    `test` are feature rows (n, k) with labels `churned` (n,); `train` is what contributions are measured
    against. Exact Shapley values if the model allows, else permutation importance (Breiman, 2001; Fisher,
    Rudin & Dominici, 2019) with partial dependence (Friedman, 2001).
    """
    exact = is_exact(model)
    sample = np.sort(np.random.default_rng(seed).permutation(len(test))[: ROWS if exact else NETWORK_ROWS])
    rows = test[sample]
    if exact:
        topics = [[index] for index in range(len(specs))]
        parts = contributions(model, rows, reference(model, train, seed), topics).values
        values, spread = np.abs(parts).mean(axis=0), np.abs(parts).std(axis=0) / np.sqrt(len(rows))
    else:
        values, spread = _permuted(model, rows, churned[sample], seed)
        parts = _estimated(model, rows, train, seed)
    order = np.argsort(-values, kind="stable")
    return Importance(
        method="shapley" if exact else "permutation",
        description=SHAPLEY if exact else PERMUTED,
        unit="log-odds" if exact else "PR-AUC",
        sample_rows=len(rows),
        model=" and ".join(member.kind for member in (model.members if isinstance(model, BlendModel) else [model])),
        features=[FeatureImportance(specs[j].name, float(values[j]), float(spread[j])) for j in order],
        dependence=[
            _shapley_dependence(specs[j], rows[:, j], parts[:, j]) if exact else _partial(model, specs[j], rows, int(j))
            for j in order[:TOP]
        ],
        summary=[
            _summary(specs[j], rows[: len(parts), j], parts[:, j]) for j in order[:SUMMARY_FEATURES] if len(parts)
        ],
    )


def _estimated(model: Model, rows: Matrix, train: Matrix, seed: int) -> Floats:
    """Estimated Shapley values of as many rows as a second allows, (m, k); none of a model with very many features."""
    width = rows.shape[1]
    count = min(SUMMARY_ROWS, len(rows), NETWORK_STEPS // (2 * BACKGROUND_ROWS * (width + 1)))
    if count < LEAST_SUMMARY_ROWS:
        return np.empty((0, width))
    topics = [[index] for index in range(width)]
    return contributions(model, rows[:count], reference(model, train, seed), topics).values


def _summary(spec: FeatureSpec, values: Matrix, parts: Floats) -> FeatureSummary:
    x, y = values[:SUMMARY_ROWS].astype(np.float64), np.round(parts[:SUMMARY_ROWS], 4)
    known, ranks = ~np.isnan(x), np.full(len(x), np.nan)
    if spec.kind != "category" and known.any():
        levels, member = np.unique(x[known], return_inverse=True)
        ranks[known] = member / max(1, len(levels) - 1)
    points = [
        (float(part), None if np.isnan(rank) else round(float(rank), 3)) for part, rank in zip(y, ranks, strict=True)
    ]
    return FeatureSummary(spec.name, spec.kind, float(np.abs(y).mean()), points)


def _permuted(model: Model, rows: Matrix, churned: Labels, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    complete = Ranking(churned, model.margin(rows)).pr_auc()
    lost = np.zeros((REPEATS, rows.shape[1]))
    for repeat in range(REPEATS):
        shuffle = rng.permutation(len(rows))
        for j in range(rows.shape[1]):
            lost[repeat, j] = complete - Ranking(churned, _margin_with(model, rows, j, rows[shuffle, j])).pr_auc()
    return lost.mean(axis=0), lost.std(axis=0, ddof=1) / np.sqrt(REPEATS)


def _margin_with(model: Model, rows: Matrix, index: int, values: Matrix | float) -> Floats:
    """Log-odds of the rows with other values of one feature."""
    changed = rows.copy()
    changed[:, index] = values
    return model.margin(changed)


def _shapley_dependence(spec: FeatureSpec, values: Matrix, parts: Floats) -> Dependence:
    known = ~np.isnan(values)
    missing = _mean(parts[~known])
    if spec.kind == "category" or len(np.unique(values[known])) <= 2:
        return Dependence(spec.name, "category", missing, levels=_levels(spec, values, parts))
    x, y = values[known].astype(np.float64), parts[known]
    # Rare extreme values would leave no room for the others: they are drawn at the 1st and 99th percentile.
    x = np.clip(x, *np.quantile(x, [0.01, 0.99]))
    return Dependence(spec.name, spec.kind, missing, _round(np.stack([x, y], axis=1)[:DOTS]), _trend(x, y))


def _levels(spec: FeatureSpec, values: Matrix, parts: Floats) -> list[Level]:
    codes = np.unique(values[~np.isnan(values)]).tolist()
    choices = spec.choices or (("no", "yes") if {*codes} <= {0.0, 1.0} else ())
    levels = []
    for code in codes:
        name, inside = choices[int(code)] if choices else f"{code:g}", values == code
        levels.append(Level(name, _mean(parts[inside]), int(np.sum(inside))))
    return levels


def _partial(model: Model, spec: FeatureSpec, rows: Matrix, index: int) -> Dependence:
    """Mean log-odds of all rows with the feature set to a value, less the mean without that change."""
    rows = rows[:300]
    values, base = rows[:, index], float(model.margin(rows).mean())

    def at(value: float) -> float:
        return float(_margin_with(model, rows, index, value).mean()) - base

    known = values[~np.isnan(values)]
    if spec.kind == "category" or len(np.unique(known)) <= 2:
        levels = _levels(spec, values, np.zeros(len(values)))
        codes = np.unique(known).tolist()
        moved = [Level(level.level, at(code), level.rows) for level, code in zip(levels, codes, strict=True)]
        return Dependence(spec.name, "category", None, levels=moved)
    grid = np.unique(np.quantile(known.astype(np.float64), np.linspace(0.01, 0.99, GRID))).tolist()
    return Dependence(spec.name, spec.kind, None, [], [(round(x, 5), round(at(x), 5)) for x in grid])


def _trend(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """Mean contribution in bins of equal mass."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, GRID) if len(part)]
    return _round(np.array([(x[part].mean(), y[part].mean()) for part in parts]))


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _round(values: Floats) -> list[tuple[float, float]]:
    return [(x, y) for x, y in np.round(values, 4).tolist()]
