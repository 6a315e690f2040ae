"""What another model says of a prediction that was logged: "what if it had answered".

The shadow scores each answered row by `replay` as it is written to the log, and an analysis any part of the log later:
the two give the same row, bit for bit. It is the score that the model gives to the request by `/predict`, as far as the
log has what was asked. It lacks the key's spelling, which no score depends on, and a value of a column that the
answering model does not read and that broke the contract; a model that reads this column would have refused it, and so
does `replay`.

A shadow's row has the id of the answer with `ENDING` behind it, and its request id: so both are joined, and a row that
is written twice is found by its id.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.errors import RowsRejected, Violation
from churn_assets.features.compile import as_of_days
from churn_assets.features.encode import expectation
from churn_assets.prediction_log.records import Prediction
from churn_assets.prediction_log.schema import holder, table_column
from churn_assets.release.policy import CHALLENGER
from churn_assets.scoring.online import CustomerScorer

ENDING = ".s"  # of the id of a shadow's row
OK = "ok"
_LOST = "a value that broke the contract, and that the log does not have"


def shadow_id(prediction_id: str) -> str:
    """The id of the shadow's row of an answer; `answered_id` is the inverse."""
    return f"{prediction_id}{ENDING}"


def answered_id(prediction_id: str) -> str:
    """The id of the answer of which this is a shadow's row. Raises ValueError for the id of an answer."""
    if not prediction_id.endswith(ENDING):
        raise ValueError(f"{prediction_id[:60]!r} is the id of an answer, expected one that ends with {ENDING!r}")
    return prediction_id.removesuffix(ENDING)


def answered_id_sql(column: str) -> str:
    """SQL of `answered_id` of a column with ids of shadow rows."""
    return f"left({column}, length({column}) - {len(ENDING)})"


def replay(customers: CustomerScorer, record: Prediction, arm: str = CHALLENGER) -> Prediction:
    """The row that `customers` gives for what `record` was asked, marked as a shadow's, under the record's policy.

    Its instant is that of the answer, and it has no latency: it depends on nothing but model and record. Raises
    RowsRejected for a row that breaks the model's contract or one of its rules, DataError for one without a finite
    score.
    """
    scorer, contract = customers.scorer, customers.scorer.contract
    if record.warnings and (lost := _lost(contract, record)):
        raise RowsRejected(lost)
    features = dict(record.features)
    score = customers.score(features, as_of_days(record.as_of))
    names = [warning.column for warning in score.warnings]
    if record.warnings and record.warnings[-1] == "as_of":  # an unusual day is unusual whoever answers
        names.append("as_of")
    customers.make_loggable(features, names)
    return Prediction(
        shadow_id(record.prediction_id), record.request_id, record.customer_id, record.as_of, record.scored_at,
        score.probability, score.margin, score.churn, scorer.thresholds.value, score.risk_band, scorer.version,
        contract.name, contract.fingerprint, arm, record.policy, OK, None, names, features, record.source, record.test,
        True,
    )  # fmt: skip


def _lost(contract: Contract, record: Prediction) -> list[Violation]:
    """Columns that this model reads, and of which the log lacks a value because the answering one does not."""
    warned = set(record.warnings) - {rule.name for rule in contract.rules}
    return [
        Violation(0, column.name, _LOST, expectation(column))
        for column in contract.scoring_columns
        if column.name in warned and record.features.get(column.name, column) is None
    ]


def record_of(contract: Contract, row: Mapping[str, Any], types: Mapping[str, str]) -> Prediction:
    """The prediction that a row of the warehouse's table `predictions` was ingested from.

    `row` has the values by the name of the column, `types` is `schema.columns_of` that table, and `contract` the one
    that the row was scored under. The numbers are those of the log: a number is a float, a boolean true or false, a
    day or an instant in a column of dates its day. A column that the answering model does not read and the request left
    out is null, as one that was null.
    """
    values = {name: row[name] for name in Prediction.__struct_fields__ if name in row}
    as_of, scored_at = values["as_of"], values["scored_at"].replace(tzinfo=dt.UTC)
    values["as_of"] = (as_of.date() if as_of.time() == dt.time.min else as_of.replace(tzinfo=dt.UTC)).isoformat()
    values["scored_at"] = scored_at.isoformat(timespec="microseconds")
    features = {}
    for column in contract.logged_columns:
        cell = row[holder(types, table_column(column.name), column.kind)]
        features[column.name] = cell.isoformat() if isinstance(cell, dt.date) else cell
    return Prediction(**values, features=features)
