"""Customers in, answers and log lines out; no HTTP here."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from churn_assets.errors import RowsRejected, Violation, shown
from churn_assets.features.encode import encode_rows
from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.scoring.online.scorer import rule_violations
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
class Moment:
    """When a request came: `text` is the instant in UTC, `day` its ordinal, `since` by `time.perf_counter`."""

    text: str
    day: int
    since: float


class Clock:
    """Moments, whose common part is written once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text, self._day = "", 0

    def now(self) -> Moment:
        """This moment."""
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            instant = dt.datetime.fromtimestamp(second, _UTC)
            self._text, self._day, self._second = instant.isoformat()[:19], instant.toordinal(), second
        return Moment(f"{self._text}.{rest // 1000:06d}+00:00", self._day, time.perf_counter())


@dataclass(slots=True)
class Told:
    """Answers, their lines for the log, the scores and the columns that were warned of."""

    answers: list[Answer]
    lines: bytes
    scores: list[float]
    warned: list[str]


@dataclass(slots=True)
class Call:
    """One request as its rows see it; `logged` says whether lines for the log are wanted."""

    request_id: str
    moment: Moment
    stale_days: int
    logged: bool = True


def read_as_of(value: object, today: int, stale_days: int) -> When:
    """The day of an ISO text, today (an ordinal, UTC) for None. Raises RowsRejected."""
    found = _when(value, today, stale_days) if value is None or type(value) is str else None
    if found is None:
        expected = "a date such as 2014-01-20, or an instant such as 2014-01-20T12:00:00Z"
        raise RowsRejected([Violation(0, AS_OF, shown(value), expected)])
    return found


@lru_cache(maxsize=1024)  # most requests of a day are asked at few of them
def _when(value: str | None, today: int, stale_days: int) -> When | None:
    if value is None:
        return When(dt.date.fromordinal(today).isoformat(), float(today - _EPOCH), None)
    day = _day(value)
    if day is None:
        return None
    text, age = day.isoformat(), today - day.toordinal()
    stale = None
    if age > stale_days:
        stale = Warned(AS_OF, f"{text}, {age:,} days ago", f"within {stale_days} days of now")
    elif age < 0:
        stale = Warned(AS_OF, f"{text}, {-age:,} days ahead", "not after today")
    return When(text, float(day.toordinal() - _EPOCH), stale)


def predict_one(arm: Arm, customer: dict[str, Any], call: Call) -> Told:
    """Score one customer: the contract's columns, optionally the key, and `as_of`, which is taken out.

    Raises RowsRejected, and DataError for one that has no finite score.
    """
    when = read_as_of(customer.pop(AS_OF, None), call.moment.day, call.stale_days)
    scored = arm.served.one.score(customer, when.days)
    warnings = [Warned(name, f"{value:g}", f"{low:g} to {high:g}") for name, value, low, high in scored.outside]
    warnings += [Warned(name, "a rule that is broken", _rule_text(arm, name)) for name in scored.broken]
    if when.stale is not None:
        warnings.append(when.stale)
    columns = [warning.column for warning in warnings]
    answer, line = _told(arm, customer, when, call, scored.probability, scored.margin, warnings, columns)
    return Told([answer], line, [scored.probability], columns)


def predict_batch(arm: Arm, customers: Sequence[dict[str, Any]], as_of: object, call: Call) -> Told:
    """Score many customers at one `as_of`, their order kept. Raises RowsRejected if any of them is bad."""
    served, scorer = arm.served, arm.served.scorer
    when = read_as_of(as_of, call.moment.day, call.stale_days)
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
    answers, lines, warned = [], [], []
    probabilities = scores.probability.tolist()
    for row, probability, margin, own in zip(customers, probabilities, scores.margin.tolist(), warnings, strict=True):
        names = [warning.column for warning in own]
        answer, line = _told(arm, row, when, call, probability, margin, own, names)
        answers.append(answer)
        lines.append(line)
        warned += names
    return Told(answers, b"".join(lines), probabilities, warned)


def _told(
    arm: Arm,
    row: dict[str, Any],
    when: When,
    call: Call,
    probability: float,
    margin: float,
    warnings: list[Warned],
    columns: list[str],
) -> tuple[Answer, bytes]:
    """The answer to one row, and its line for the log. The key is taken out of the row."""
    scorer, contract, moment = arm.served.scorer, arm.served.contract, call.moment
    threshold, bands = scorer.thresholds.value, scorer.bands
    prediction_id = os.urandom(12).hex()
    customer = row.pop(contract.key.name, None)
    churn = probability >= threshold
    band = "low" if probability < bands.medium else "medium" if probability < bands.high else "high"
    answer = Answer(
        prediction_id, customer, probability, churn, threshold, band, scorer.version, contract.name, when.text,
        moment.text, warnings,
    )  # fmt: skip
    if not call.logged:
        return answer, b""
    latency_us = float(int((time.perf_counter() - moment.since) * 1e6))
    line = Prediction(
        prediction_id, call.request_id, customer, when.text, moment.text, probability, margin, churn, threshold,
        band, scorer.version, contract.name, contract.fingerprint, arm.name, arm.policy, OK, latency_us, columns, row,
    )  # fmt: skip
    return answer, encode_line(line)


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
