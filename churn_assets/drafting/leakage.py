"""Columns of an unknown table that are too strongly related to the label, each taken alone.

A column is cut into groups (its choices, or up to 50 bins of equal counts, and one for missing cells); each row gets
the churn rate of its group among the *other* half of the rows, so that many groups gain nothing by chance, and the
ROC AUC of that rate is the strength of the column alone. A first estimate for the draft; the leakage audit decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Kind
from churn_assets.data.id_names import split_name
from churn_assets.data.validation.parse import as_days, parse_column, to_numpy
from churn_assets.drafting.columns import Guess
from churn_assets.evaluation.metrics import roc_auc

ECHO_AUC = 0.99
SUSPECT_AUC = 0.85
PURE_RATE = 0.99
PURE_SHARE = 0.05  # of all churners, in one group
MIN_CHURNERS = 20  # fewer give no reliable estimate
_BINS = 50
_SMALLEST_PURE = 20

OUTCOME_NAME = re.compile(
    r"churn|attrit|cancel|terminat|deactivat|unsubscri|winback|win_back|retention|exit(ed)?($|[_\W])|clos(ed|ing|ure)"
    r"|(leav|left|exit|end)\w*_?(date|reason)|reason_?(for|of|code|$)|kuendig|kündig|résili|resili|baja($|_)",
    re.I,
)

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelSignal:
    """ROC AUC of the column alone (0.5 none, 1 perfect), and the share of churners in a group of churners only."""

    auc: float
    pure_share: float

    @property
    def is_echo(self) -> bool:
        """Whether the column repeats the label."""
        return self.auc >= ECHO_AUC


def label_signal(guess: Guess, cells: pa.ChunkedArray, churned: npt.NDArray[np.int8]) -> LabelSignal | None:
    """How well the column separates churned (1) from kept (0) rows; rows of -1 are ignored. None with fewer than
    MIN_CHURNERS rows of either class."""
    known = churned >= 0
    label = churned[known].astype(np.float64)
    if min(label.sum(), len(label) - label.sum()) < MIN_CHURNERS:
        return None
    codes = _groups(guess, cells)[known]
    rate = _rate_of_other_half(codes, label)
    counts, churners = np.bincount(codes), np.bincount(codes, weights=label)
    pure = (churners >= PURE_RATE * counts) & (churners >= _SMALLEST_PURE)
    return LabelSignal(roc_auc(label, rate), float(churners[pure].max(initial=0.0) / label.sum()))


def why_suspect(name: str, signal: LabelSignal | None) -> str:
    """Why the column may be a consequence of churn; '' if there is no sign of it."""
    reasons = []
    if signal is not None and signal.auc >= SUSPECT_AUC:
        reasons.append(f"alone it separates churned from kept customers with ROC AUC {signal.auc:.2f}")
    if signal is not None and signal.pure_share >= PURE_SHARE:
        reasons.append(f"{signal.pure_share:.0%} of the churned share a value that almost no kept customer has")
    if OUTCOME_NAME.search(split_name(name)):
        reasons.append("its name refers to the outcome")
    text = " and ".join(reasons)
    return f"{text[0].upper()}{text[1:]}; is it known before the customer leaves?" if reasons else ""


def _groups(guess: Guess, cells: pa.ChunkedArray) -> Codes:
    values = parse_column(guess.column, cells).values
    if guess.column.kind in (Kind.CATEGORY, Kind.TEXT):
        encoded = values.dictionary_encode()
        return to_numpy(pc.fill_null(encoded.indices, len(encoded.dictionary))).astype(np.int64)
    is_date = guess.column.kind is Kind.DATE
    numbers = as_days(values) if is_date else to_numpy(pc.fill_null(values.cast(pa.float64()), np.nan))
    missing = np.isnan(numbers)
    if missing.all():
        return np.zeros(len(numbers), dtype=np.int64)
    edges = np.unique(np.quantile(numbers[~missing], np.linspace(0.0, 1.0, _BINS + 1), method="lower"))
    codes = np.searchsorted(edges, numbers, side="right")
    return np.where(missing, len(edges) + 1, codes).astype(np.int64)


def _rate_of_other_half(codes: Codes, label: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rate = np.empty(len(label))
    half = np.arange(len(label)) % 2 == 0
    groups = int(codes.max()) + 1
    for here, there in ((half, ~half), (~half, half)):
        counts = np.bincount(codes[there], minlength=groups)
        churners = np.bincount(codes[there], weights=label[there], minlength=groups)
        # Two rows of the base rate give a group without rows in the other half the base rate.
        rate[here] = ((churners + 2.0 * label[there].mean()) / (counts + 2.0))[codes[here]]
    return rate
