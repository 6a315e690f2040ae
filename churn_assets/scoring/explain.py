"""Why a customer's score is high: Shapley values of the features, and the columns that raise the score most, in words.

Contributions to the log-odds are Shapley values; base value + contributions = log-odds.

- Boosted trees: exact TreeSHAP by XGBoost's C library, paths weighed by their covers (Lundberg et al., "From local
  explanations to global understanding with explainable AI for trees", Nature MI 2020).
- Logistic: the model is additive, so a feature's value is its curve minus the curve's mean over training rows.
- Blend: Shapley values are linear in the model, so they are the weighted sum of the members' values.
- Network: an estimate. Features are switched from a background customer's value to this customer's in random orders
  (Strumbelj & Kononenko, 2014) that keep the features of one topic together (Owen, 1977), each order also backwards.
  Orders and background are drawn with a fixed seed, so equal customers get equal values.

Reasons sum the contributions by topic, a column together with the features that belong to it
(`contract.wording.topics`): five features made of one column are one reason. Topics whose features are twins, which
order the training customers in the same way or divide them into the same groups, are one as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.expressions import columns_read
from churn_assets.contract.wording import Typical, Wording, topics
from churn_assets.errors import BundleMismatch
from churn_assets.features.compile import Array, FeatureSpec, Matrix
from churn_assets.features.encode import encode_table
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.scoring.models.logistic import LogisticModel
from churn_assets.scoring.models.network import NetworkModel
from churn_assets.scoring.scorer import AsOf, Scorer

if TYPE_CHECKING:
    import pyarrow as pa

Topics = Sequence[Sequence[int]]

REASONS = 3
# A topic is a reason from this share of everything that raises the score, and from so many log-odds: less is trivia.
LEAST_SHARE, LEAST_LOG_ODDS = 0.1, 0.05
MOST_OF_A_SCORE = 0.5  # from this share on it is said that the column is a suspect one
TWIN_CORRELATION = 0.995  # absolute, of ranks
TWIN_ROWS = 5000
TWIN_VALUES = 64  # a category is compared with numbers of at most so many distinct values
BACKGROUND_ROWS = 16  # of a network: each is walked from in one order and in its reverse
_MIXED = " (most of the score rests on this, which is partly made of a suspect column:"
_SEED = 42
_NETWORK_CHUNK = 64  # customers of a network explained at a time
_CHUNK = 4096


@dataclass(frozen=True)
class Contributions:
    """`values` (n, k) in log-odds, positive towards churn; `base` + their sum is the log-odds."""

    values: Array
    base: float


def is_exact(model: Model) -> bool:
    """Whether the model's contributions are exact; a network's are estimates."""
    if isinstance(model, BlendModel):
        return all(is_exact(member) for member in model.members)
    return not isinstance(model, NetworkModel)


def reference(model: Model, matrix: Matrix, seed: int = _SEED) -> dict[str, Any]:
    """What `contributions` needs of training rows (n, k), as JSON; for trees nothing."""
    match model:
        case LogisticModel():
            return {"means": model.heights(matrix).mean(axis=0).tolist()}
        case NetworkModel():
            chosen = np.sort(np.random.default_rng(seed).permutation(len(matrix))[:BACKGROUND_ROWS])
            return {"rows": [[None if np.isnan(x) else float(x) for x in row] for row in matrix[chosen]]}
        case BlendModel():
            return {"members": [reference(member, matrix, seed) for member in model.members]}
    return {}


def contributions(model: Model, matrix: Matrix, stored: Mapping[str, Any], topics: Topics) -> Contributions:
    """Contributions of feature rows (n, k); `stored` is `reference` of the training rows, `topics` are feature numbers
    that belong together, each in one topic. TypeError for a model kind that cannot be explained."""
    match model:
        case BoostedModel():
            return Contributions(*model.contributions(matrix))
        case LogisticModel():
            means = np.asarray(stored["means"], dtype=np.float64)
            return Contributions(model.heights(matrix) - means, model.intercept + float(means.sum()))
        case BlendModel():
            pairs = zip(model.members, stored["members"], strict=True)
            parts = [contributions(member, matrix, of_member, topics) for member, of_member in pairs]
            values = sum((w * part.values for w, part in zip(model.weights, parts, strict=True)), np.zeros(1))
            base = sum(w * part.base for w, part in zip(model.weights, parts, strict=True))
            return Contributions(np.asarray(values), base)
        case NetworkModel():
            rows = [[np.nan if x is None else x for x in row] for row in stored["rows"]]
            return _sampled(model, matrix, np.array(rows, dtype=np.float32), topics)
    raise TypeError(f"a model of kind '{model.kind}' has no contributions; add the kind to scoring/explain.py")


def _sampled(model: NetworkModel, matrix: Matrix, background: Matrix, topics: Topics) -> Contributions:
    rng = np.random.default_rng(_SEED)
    orders = [_order(rng, topics) for _ in background]
    values = np.zeros(matrix.shape)
    for start in range(0, len(matrix), _NETWORK_CHUNK):
        part = slice(start, start + _NETWORK_CHUNK)
        for other, order in zip(background, orders, strict=True):
            for walk in (order, order[::-1]):
                values[part] += _walked(model, matrix[part], other, walk)
    values /= 2.0 * len(background)
    return Contributions(values, float(model.margin(background).mean()))


def _order(rng: np.random.Generator, topics: Topics) -> npt.NDArray[np.intp]:
    """Topics in random order, and the features of each in random order."""
    return np.concatenate([rng.permutation(np.asarray(topics[i], dtype=np.intp)) for i in rng.permutation(len(topics))])


def _walked(model: NetworkModel, rows: Matrix, other: Matrix, order: npt.NDArray[np.intp]) -> Array:
    """How the log-odds (n, k) move as `other` becomes each row, feature after feature in this order."""
    count, width = rows.shape
    steps = np.repeat(other[None, None, :], count, axis=0).repeat(width + 1, axis=1)
    for position, feature in enumerate(order, start=1):
        steps[:, position:, feature] = rows[:, feature, None]
    margin = model.margin(np.ascontiguousarray(steps.reshape(-1, width))).reshape(count, width + 1)
    out = np.empty((count, width))
    out[:, order] = np.diff(margin, axis=1)
    return out


@dataclass(frozen=True)
class Reason:
    """One topic that raises a customer's log-odds by `contribution` (> 0), in the words of its strongest `feature`."""

    topic: str
    feature: str
    text: str
    contribution: float


def background(model: Model, specs: Sequence[FeatureSpec], matrix: Matrix) -> dict[str, Any]:
    """What `Explainer` needs of the training rows (n, k), as JSON: the bundle's explain.json."""
    typical = {}
    for j, spec in enumerate(specs):
        present = matrix[:, j][np.isfinite(matrix[:, j])].astype(np.float64)
        if len(present):
            usual = np.bincount(present.astype(np.int64)).argmax() if spec.kind == "category" else np.median(present)
            typical[spec.name] = [float(usual), float(present.mean())]
    twins = [[specs[one].name, specs[other].name] for one, other in twin_pairs(specs, matrix)]
    return {"typical": typical, "twins": twins, "reference": reference(model, matrix)}


def twin_pairs(specs: Sequence[FeatureSpec], matrix: Matrix) -> list[tuple[int, int]]:
    """Pairs of features (n, k) that tell the same of nearly every customer: their ranks correlate, rising or falling,
    or both divide the customers into the same groups, and the same values are missing."""
    rows = np.asarray(matrix[:: -(-len(matrix) // TWIN_ROWS) or 1], dtype=np.float64)
    missing = ~np.isfinite(rows)
    codes = [
        np.unique(np.where(gone, np.inf, own), return_inverse=True)[1]
        for own, gone in zip(rows.T, missing.T, strict=True)
    ]
    counts = [int(own.max(initial=0)) + 1 for own in codes]
    ranks = np.stack([_ranks(own) for own in codes], axis=1) if codes else rows
    length = np.sqrt(np.sum(ranks**2, axis=0))
    close = np.abs(ranks.T @ ranks) >= TWIN_CORRELATION * np.maximum(np.outer(length, length), 1e-12)
    gaps = missing.sum(axis=0)
    differing = gaps[:, None] + gaps[None, :] - 2.0 * (missing.T.astype(np.float64) @ missing)
    same_gaps = differing <= (1.0 - TWIN_CORRELATION) * len(rows)
    pairs = []
    for one, other in itertools.combinations(range(len(specs)), 2):
        if "category" in (specs[one].kind, specs[other].kind):
            small = 1 < counts[one] == counts[other] <= TWIN_VALUES
            is_twin = small and len(np.unique(codes[one] * counts[other] + codes[other])) == counts[one]
        else:
            is_twin = bool(close[one, other] and same_gaps[one, other])
        if is_twin:
            pairs.append((one, other))
    return pairs


def _ranks(codes: npt.NDArray[np.intp]) -> Array:
    """Mean ranks (n,) of values by their sorted codes, centred on 0."""
    sizes = np.bincount(codes)
    rank = np.cumsum(sizes) - (sizes - 1) / 2.0
    return np.asarray(rank[codes] - rank[codes].mean(), dtype=np.float64)


class Explainer:
    """Explains the scores of one Scorer; made once, safe to call from any thread.

    Raises BundleMismatch for a scorer of a bundle without `explain.json`.
    """

    def __init__(self, scorer: Scorer) -> None:
        stored: Mapping[str, Any] = scorer.background
        if not stored:
            raise BundleMismatch(
                f"bundle {scorer.version or 'in memory'}: has no explain.json, expected one for reasons; it was made "
                "by a version without them: train again and promote the new model"
            )
        self.scorer = scorer
        self._reference = stored["reference"]
        self._typical = {name: Typical(*pair) for name, pair in stored["typical"].items()}
        self._wording = Wording(scorer.contract)
        self.exact = is_exact(scorer.model)
        twins = stored.get("twins", [])  # an older bundle names none
        self.topic_of = of_name = merged_topics(topics(scorer.contract), twins)
        self.topics = tuple(dict.fromkeys(of_name.values()))
        names = scorer.program.names
        self._members = [
            np.array([j for j, name in enumerate(names) if of_name[name] == topic], dtype=np.intp)
            for topic in self.topics
        ]
        self._directions = np.array([spec.monotone for spec in scorer.program.specs])
        self._speakers = _speakers(scorer, twins)
        reads = {name: frozenset({name}) for name in scorer.contract.by_name} | dict(columns_read(scorer.contract))
        suspect = [column.name for column in scorer.contract.columns if column.suspect or column.attested]
        self._suspects = [next((c for c in suspect if c in reads[name]), "") for name in names]
        self._suspect_topics = {of_name.get(c, c) for c in suspect}

    def contributions(self, matrix: Matrix) -> Contributions:
        """Contributions of the features of rows (n, k)."""
        return contributions(self.scorer.model, matrix, self._reference, [m.tolist() for m in self._members])

    def by_topic(self, values: Array) -> Array:
        """Contributions (n, k) of features, summed by topic: (n, topics)."""
        parts = [values[:, members].sum(axis=1) for members in self._members]
        return np.stack(parts, axis=1) if parts else np.zeros((len(values), 0))

    def explain_table(self, table: pa.Table, as_of: AsOf) -> list[tuple[Reason, ...]]:
        """At most `REASONS` reasons for each row of a typed table, the strongest first."""
        wanted = [column.name for column in self.scorer.contract.scoring_columns]
        matrix = self.scorer.features(encode_table(self.scorer.contract, table.select(wanted)), as_of)
        reasons: list[tuple[Reason, ...]] = []
        for start in range(0, len(matrix), _CHUNK):
            part = matrix[start : start + _CHUNK]
            values = self.contributions(part).values
            reasons += [self.reasons(*row) for row in zip(part, values, self.by_topic(values), strict=True)]
        return reasons

    def reasons(self, row: Matrix, values: Array, totals: Array) -> tuple[Reason, ...]:
        """At most `REASONS` reasons of one customer: its features (k,), their contributions (k,), and those by topic
        (topics,)."""
        raising = float(totals[totals > 0.0].sum())
        least = max(LEAST_LOG_ODDS, LEAST_SHARE * raising)
        reasons: list[Reason] = []
        for topic in np.argsort(-totals, kind="stable"):
            if totals[topic] < least or len(reasons) == REASONS:
                break
            feature = self._strongest(self._members[topic], row, values)
            if feature is None:
                continue
            name = self.scorer.program.names[self._speakers[feature]]
            text = self._wording.describe(name, float(row[self._speakers[feature]]), self._typical.get(name))
            if totals[topic] >= MOST_OF_A_SCORE * raising and (suspect := self._suspects[feature]):
                is_own = self.topics[topic] in self._suspect_topics  # else the column counts with another topic as well
                text += (
                    f" (most of the score rests on {suspect}, a suspect column)" if is_own else f"{_MIXED} {suspect})"
                )
            if all(reason.text != text for reason in reasons):
                reasons.append(Reason(self.topics[topic], name, text, float(totals[topic])))
        return tuple(reasons)

    def _strongest(self, members: npt.NDArray[np.intp], row: Matrix, values: Array) -> int | None:
        """The member that raises the score most, unless the contract says that risk falls with a value as it is."""
        for member in members[np.argsort(-values[members], kind="stable")]:
            typical = self._typical.get(self.scorer.program.names[member])
            side = 0.0 if typical is None or np.isnan(row[member]) else np.sign(row[member] - typical.median)
            if values[member] > 0.0 and side * self._directions[member] >= 0.0:
                return int(member)
        return None


def merged_topics(of_name: Mapping[str, str], twins: Sequence[Sequence[str]]) -> dict[str, str]:
    """The topic of each model input, topics with twins among their features being the first of them."""
    merged = dict(of_name)
    order = list(dict.fromkeys(of_name.values()))
    for one, other in twins:
        first, second = sorted((merged[one], merged[other]), key=order.index)
        merged = {name: first if topic == second else topic for name, topic in merged.items()}
    return merged


def _speakers(scorer: Scorer, twins: Sequence[Sequence[str]]) -> list[int]:
    """For each feature the one whose value a reason shows: itself, or its first twin that is a column of the table."""
    names, columns = list(scorer.program.names), scorer.contract.by_name
    speakers = list(range(len(names)))
    for pair in twins:
        for one, other in (pair, pair[::-1]):
            if one not in columns and other in columns and speakers[names.index(one)] == names.index(one):
                speakers[names.index(one)] = names.index(other)
    return speakers
