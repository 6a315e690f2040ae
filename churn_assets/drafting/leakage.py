"""Columns of an unknown table that are too strongly related to the label, each taken alone.

They are measured and judged as the audit does before a training (`leakage.column_tests`, its default limits), so that
what the draft calls suspect is what `churn run` leaves out. What needs the whole table, the audit alone can tell.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.limits import Audit as Limits
from churn_assets.contract.model import Kind
from churn_assets.data.id_names import split_name
from churn_assets.data.validation.parse import as_days, parse_column, to_numpy
from churn_assets.drafting.columns import Guess
from churn_assets.leakage.column_tests import Alone, measure_alone

ECHO_AUC = 0.99  # a column that reaches it repeats the label
MIN_CHURNERS = 20  # fewer give no reliable estimate
LIMITS = Limits()

OUTCOME_NAME = re.compile(
    r"churn|attrit|cancel|terminat|deactivat|unsubscri|winback|win_back|retention|exit(ed)?($|[_\W])|clos(ed|ing|ure)"
    r"|(leav|left|exit|end)\w*_?(date|reason)|reason_?(for|of|code|$)|kuendig|kündig|résili|resili|baja($|_)",
    re.I,
)


def label_signal(guess: Guess, cells: pa.ChunkedArray, churned: npt.NDArray[np.int8]) -> Alone | None:
    """How well the column separates churned (1) from kept (0) rows; rows of -1 are ignored. None for a text, and with
    fewer than MIN_CHURNERS rows of either class."""
    known = churned >= 0
    label = churned[known]
    if guess.column.kind in (Kind.TEXT, Kind.ID) or min(label.sum(), len(label) - label.sum()) < MIN_CHURNERS:
        return None
    return measure_alone(guess.column, _numbers(guess, cells)[known], label)


def is_echo(signal: Alone | None) -> bool:
    """Whether the column repeats the label."""
    return signal is not None and signal.roc_auc >= ECHO_AUC


def why_suspect(name: str, signal: Alone | None) -> str:
    """Why the column may be a consequence of churn; '' if there is no sign of it."""
    reasons = []
    if signal is not None and signal.pr_auc_lift_low > LIMITS.single_column_pr_auc_lift:
        reasons.append(f"alone it separates churned from kept customers with ROC AUC {signal.roc_auc:.2f}")
    if signal is not None and signal.isolated_share > LIMITS.isolated_churner_share:
        reasons.append(f"{signal.isolated_share:.0%} of the churned have values that no kept customer has")
    if OUTCOME_NAME.search(split_name(name)):
        reasons.append("its name refers to the outcome")
    text = " and ".join(reasons)
    return f"{text[0].upper()}{text[1:]}; is it known before the customer leaves?" if reasons else ""


def _numbers(guess: Guess, cells: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Numbers, days, or codes of the choices; NaN for missing."""
    values = parse_column(guess.column, cells).values
    if guess.column.choices:
        values = pc.index_in(values.cast(pa.string()), value_set=pa.array(guess.column.choices, pa.string()))
    elif guess.column.kind is Kind.DATE:
        return np.asarray(as_days(values), dtype=np.float64)
    return to_numpy(pc.fill_null(values.cast(pa.float64()), np.nan))
