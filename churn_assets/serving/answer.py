"""Customers in, answers and log lines out; no HTTP here."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from churn_assets.errors import RowsRejected, Violation, shown
from churn_assets.features.encode import encode_rows
from churn_assets.predlog.rows import Prediction, encode_line
from churn_assets.scoring.one_row import rule_violations
from churn_assets.serving.router import Arm

AS_OF = "as_of"
OK = "ok"
_EPOCH = dt.date(1970, 1, 1).toordinal()
_UTC = dt.UTC


class Warned(msgspec.Struct, frozen=True, gc=False):
    """Something odd that is no error: the answer is given, and should be read with care."""

    column: str
    found: str
    expected: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a client is told of one customer."""

    prediction_id: str
    customer_id: str | None
    churn_probability: float
    churn: bool
    threshold: float
    risk_band: str
    model_version: str
    contract: str
    as_of: str
    scored_at: str
    warnings: list[Warned]


@dataclass(frozen=True, slots=True)
class When:
    """The day at which customers are scored."""

    text: str
    days: float
    stale: Warned | None


@dataclass(slots=True)
class Told:
    """Answers, their lines for the log, the scores and the columns that were warned of."""

    answers: list[Answer]
    lines: bytes
    scores: list[float]
    warned: list[str]


def read_as_of(value: object, now: dt.datetime, stale_days: int) -> When:
    """The day of an ISO text, today (UTC) for None. Raises RowsRejected."""
    if value is None:
        today = now.date()
        return When(today.isoformat(), float(today.toordinal() - _EPOCH), None)
    day = _day(value)
    if day is None:
        expected = "a date such as 2014-01-20, or an instant such as 2014-01-20T12:00:00Z"
        raise RowsRejected([Violation(0, AS_OF, shown(value), expected)])
    text, age = day.isoformat(), (now.date() - day).days
    stale = None
    if age > stale_days:
        stale = Warned(AS_OF, f"{text}, {age:,} days ago", f"within {stale_days} days of now")
    elif age < 0:
        stale = Warned(AS_OF, f"{text}, {-age:,} days ahead", "not after today")
    return When(text, float(day.toordinal() - _EPOCH), stale)


def predict_one(arm: Arm, customer: dict[str, Any], request_id: str, now: dt.datetime, stale_days: int) -> Told:
    """Score one customer: the contract's columns, optionally the key, and `as_of`. Raises RowsRejected."""
    served = arm.served
    if AS_OF in customer:
        row = dict(customer)
        when = read_as_of(row.pop(AS_OF), now, stale_days)
    else:
        row, when = customer, read_as_of(None, now, stale_days)
    scored = served.one.score(row, when.days)
    warnings = [Warned(name, f"{value:g}", f"{low:g} to {high:g}") for name, value, low, high in scored.outside]
    warnings += [Warned(name, "a rule that is broken", _rule_text(arm, name)) for name in scored.broken]
    if when.stale is not None:
        warnings.append(when.stale)
    return _told(arm, [row], when, request_id, now, [_Result(scored.probability, scored.margin, warnings)])


def predict_batch(
    arm: Arm, customers: Sequence[Mapping[str, Any]], as_of: object, request_id: str, now: dt.datetime, stale_days: int
) -> Told:
    """Score many customers at one `as_of`, their order kept. Raises RowsRejected if any of them is bad."""
    served, scorer = arm.served, arm.served.scorer
    when = read_as_of(as_of, now, stale_days)
    for index, row in enumerate(customers):
        if not isinstance(row, dict):
            raise RowsRejected([Violation(index, "", shown(row), "a customer as a JSON object")])
    columns = encode_rows(served.contract, customers)
    severity = {rule.name: rule.severity for rule in served.contract.rules}
    warnings: list[list[Warned]] = [[] for _ in customers]
    for rule in served.rules:
        for index in np.flatnonzero(rule(columns, when.days)).tolist():
            if severity[rule.name] == "reject":
                raise RowsRejected(rule_violations(served.contract, customers[index], rule.name, index))
            warnings[index].append(Warned(rule.name, "a rule that is broken", rule.expression))
    scores = scorer.score(columns, when.days)
    matrix = scorer.program(columns, when.days)
    for j, name in enumerate(scorer.program.names):
        low, high = scorer.ranges.get(name, (-np.inf, np.inf))
        for index in np.flatnonzero((matrix[:, j] < low) | (matrix[:, j] > high)).tolist():
            warnings[index].append(Warned(name, f"{matrix[index, j]:g}", f"{low:g} to {high:g}"))
    if when.stale is not None:
        for told in warnings:
            told.append(when.stale)
    pairs = zip(scores.probability.tolist(), scores.margin.tolist(), warnings, strict=True)
    return _told(arm, customers, when, request_id, now, [_Result(*one) for one in pairs])


@dataclass(slots=True)
class _Result:
    probability: float
    margin: float
    warnings: list[Warned]


def _told(
    arm: Arm,
    rows: Sequence[Mapping[str, Any]],
    when: When,
    request_id: str,
    now: dt.datetime,
    results: Sequence[_Result],
) -> Told:
    scorer, contract = arm.served.scorer, arm.served.contract
    key, threshold, cuts = contract.key.name, scorer.thresholds.value, (scorer.bands.medium, scorer.bands.high)
    version, name, fingerprint = scorer.version, contract.name, contract.fingerprint
    scored_at = now.isoformat()
    latency_us = round((dt.datetime.now(_UTC) - now).total_seconds() * 1e6, 1)
    told = Told([], b"", [], [])
    lines = []
    for row, result in zip(rows, results, strict=True):
        probability, warnings = result.probability, result.warnings
        prediction_id = os.urandom(12).hex()
        customer = row.get(key)
        churn = probability >= threshold
        band = "low" if probability < cuts[0] else "medium" if probability < cuts[1] else "high"
        columns = [warning.column for warning in warnings]
        told.answers.append(
            Answer(
                prediction_id,
                customer,
                probability,
                churn,
                threshold,
                band,
                version,
                name,
                when.text,
                scored_at,
                warnings,
            )
        )
        told.scores.append(probability)
        told.warned += columns
        line = Prediction(
            prediction_id, request_id, customer, when.text, scored_at, probability, result.margin, churn, threshold,
            band, version, name, fingerprint, arm.name, arm.policy, OK, latency_us, columns,
            {column: cell for column, cell in row.items() if column != key},
        )  # fmt: skip
        lines.append(encode_line(line))
    told.lines = b"".join(lines)
    return told


def _rule_text(arm: Arm, name: str) -> str:
    return next(rule.expression for rule in arm.served.rules if rule.name == name)


def _day(value: object) -> dt.date | None:
    if not isinstance(value, str) or not value.isascii() or len(value) > 40:
        return None
    try:
        if len(value) == 10:
            return dt.date.fromisoformat(value)
        instant = dt.datetime.fromisoformat(value)
        return (instant if instant.tzinfo is None else instant.astimezone(_UTC)).date()
    except (ValueError, OverflowError):
        return None
