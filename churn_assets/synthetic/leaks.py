"""Leaks planted into a customer table, with the contract that describes them: an audit must find them.

A leak is a column that contains the outcome because it was recorded after it. Each kind is drawn from the label, so
that the column alone separates churned from kept customers with the ROC AUC `strength`, in expectation;
docs/generator.md describes the kinds. No audit of one snapshot can distinguish `disguised_echo`, of which half the
variance is an existing column, from a good predictor: the benchmark reports how many are missed.
See Kaufman, Rosset & Perlich, "Leakage in Data Mining" (KDD 2011), for examples of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract, Kind
from churn_assets.contract.values import canonical_text
from churn_assets.data.validation.parse import as_text
from churn_assets.errors import DataError, ScenarioError
from churn_assets.synthetic.generate import solve

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BACKGROUND = 0.5  # mean contacts of every customer
FILLED_EARLY = 0.05  # share of kept customers whose late field is filled, too
KEPT_UPDATE_DAYS = 180.0


def plant_leak(
    contract: Contract, table: pa.Table, kind: str, strength: float, seed: int
) -> tuple[pa.Table, Contract, str]:
    """`table` with one more column, the contract that describes it, and the column's name.

    `table` is raw or typed and has the label column. The new column is of role feature, without
    `suspect` or `attested`. Raises DataError for an unknown kind, a strength outside 0.55..0.95, or a
    table without both classes.
    """
    if kind not in KINDS:
        raise DataError(f"no kind of leak '{kind}'; expected one of: {', '.join(KINDS)}")
    if not 0.55 <= strength <= 0.95:
        raise DataError(f"a leak of strength {strength:g} cannot be planted; expected a ROC AUC from 0.55 to 0.95")
    churned, maker = _churned(contract, table), KINDS[kind]
    name = _free_name(contract, maker.column)
    values = maker.draw(churned, strength, np.random.default_rng((seed, list(KINDS).index(kind))))
    if kind == "disguised_echo":
        values = values + _disguise(contract, table)
    cells = pa.array(values, pa.int64() if maker.whole else None, mask=np.isnan(values))
    column = f'\n[[columns]]\nname = "{name}"\nkind = "{Kind.INTEGER if maker.whole else Kind.NUMBER}"\n'
    column += f'nullable = {canonical_text(maker.nullable)}\ndoc = "{maker.doc}"\n'
    planted = parse_contract(contract.text + column, contract.where, contract.path)
    return table.append_column(name, cells), planted, name


def _churned(contract: Contract, table: pa.Table) -> Flags:
    labels = np.asarray(as_text(table.column(contract.label.column)).to_pylist(), dtype=object)
    churned: Flags = labels == contract.label.churned_when
    if churned.all() or not churned.any():
        raise DataError(f"column '{contract.label.column}' has one class only; expected churned and kept customers")
    return churned


def _free_name(contract: Contract, wanted: str) -> str:
    taken = {*contract.by_name, *(feature.name for feature in contract.features)}
    names = (wanted, *(f"{wanted}_{n}" for n in range(2, 1000)))
    return next(name for name in names if name not in taken)


def _post_outcome_count(churned: Flags, strength: float, rng: np.random.Generator) -> Floats:
    later = solve(lambda mean: _auc(_poisson(BACKGROUND + mean), _poisson(BACKGROUND)), strength, 0.0, 40.0, steps=50)
    return rng.poisson(BACKGROUND + later * churned).astype(np.float64)


def _label_echo(churned: Flags, strength: float, rng: np.random.Generator) -> Floats:
    # Two unit normals a distance d apart have ROC AUC Phi(d / sqrt 2).
    apart = math.sqrt(2.0) * NormalDist().inv_cdf(strength)
    return np.asarray(apart * churned + rng.standard_normal(len(churned)), dtype=np.float64)


def _target_encoded_id(churned: Flags, strength: float, rng: np.random.Generator) -> Floats:
    rate = float(churned.mean())
    size = min(range(2, 80), key=lambda k: abs(_group_auc(k, rate) - strength))
    group = rng.permutation(len(churned)) // size
    rates: Floats = np.bincount(group, churned) / np.bincount(group)
    return rates[group]


def _late_back_fill(churned: Flags, strength: float, rng: np.random.Generator) -> Floats:
    filled = FILLED_EARLY + churned * min(2.0 * (strength - 0.5), 1.0 - FILLED_EARLY)
    early = np.round(rng.normal(50.0, 10.0, len(churned)), 2)
    return np.asarray(np.where(rng.random(len(churned)) < filled, early, np.nan), dtype=np.float64)


def _late_update(churned: Flags, strength: float, rng: np.random.Generator) -> Floats:
    # P(one exponential is longer than another) is its mean over the sum of both.
    mean = np.where(churned, KEPT_UPDATE_DAYS * (1.0 - strength) / strength, KEPT_UPDATE_DAYS)
    return np.floor(rng.exponential(mean))


def _disguise(contract: Contract, table: pa.Table) -> Floats:
    numbers = [c.name for c in contract.feature_columns if c.kind in (Kind.NUMBER, Kind.INTEGER)]
    if not numbers:
        raise DataError("the contract has no feature column of numbers; expected one for a disguised echo; add one")
    column = np.asarray(table.column(numbers[0]).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    ranked = np.argsort(np.argsort(np.nan_to_num(column))) / len(column)
    return np.asarray((ranked - ranked.mean()) / ranked.std(), dtype=np.float64)


@dataclass(frozen=True)
class _Maker:
    column: str
    whole: bool
    nullable: bool
    doc: str
    draw: Callable[[Flags, float, np.random.Generator], Floats]


KINDS: Mapping[str, _Maker] = {
    "post_outcome_count": _Maker("service_contacts", True, False, "Contacts with service.", _post_outcome_count),
    "label_echo": _Maker("value_index", False, False, "An index of customer value.", _label_echo),
    "target_encoded_id": _Maker("segment_rate", False, False, "A rate of the customer's segment.", _target_encoded_id),
    "late_back_fill": _Maker("interview_score", False, True, "Score of an interview.", _late_back_fill),
    "late_update": _Maker("days_since_update", True, False, "Days since the record was touched.", _late_update),
    "disguised_echo": _Maker("loyalty_index", False, False, "An index of loyalty.", _label_echo),
}
# The kinds that one snapshot can show; `disguised_echo` is one that it cannot.
FINDABLE = tuple(kind for kind in KINDS if kind != "disguised_echo")


def read_leaks(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Kinds and strengths of leaks from texts such as `label_echo:0.8`. Raises ScenarioError."""
    return tuple(map(_read_leak, texts))


def _read_leak(text: str) -> tuple[str, float]:
    kind, _, strength = text.partition(":")
    try:
        number = float(strength)
    except ValueError:
        number = 0.0
    if kind not in KINDS or not 0.55 <= number <= 0.95:
        raise ScenarioError(
            f"--leak '{text}' cannot be read; "
            "expected KIND:STRENGTH, a strength from 0.55 to 0.95 (ROC AUC of the column alone), "
            f"kinds: {', '.join(KINDS)}"
        )
    return kind, number


def _poisson(mean: float, terms: int = 120) -> Floats:
    number = np.arange(terms)
    return np.asarray(np.exp(number * math.log(mean) - mean - np.array([math.lgamma(n + 1.0) for n in number])))


def _group_auc(size: int, rate: float) -> float:
    others = np.array([math.comb(size - 1, n) * rate**n * (1 - rate) ** (size - 1 - n) for n in range(size)])
    return _auc(np.append(0.0, others), np.append(others, 0.0))


def _auc(first: Floats, second: Floats) -> float:
    """ROC AUC of two distributions over 0, 1, 2, ...: P(first is larger) + P(equal) / 2."""
    below = np.cumsum(second) - second
    return float(np.sum(first * (below + second / 2.0)))
