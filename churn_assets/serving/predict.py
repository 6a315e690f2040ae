"""Customers in, predictions and lines of the prediction log out; no HTTP here."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from churn_assets.errors import RowsRejected, Violation, describe_value
from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.scoring.online import CustomerScore, InputWarning
from churn_assets.serving.model_watcher import Arm
from churn_assets.serving.schemas import PredictionResponse

AS_OF = "as_of"
OK = "ok"
_EPOCH = dt.date(1970, 1, 1).toordinal()
_UTC = dt.UTC


@dataclass(frozen=True, slots=True)
class ScoringDay:
    """The day at which customers are scored: ISO text, days since 1970-01-01, and a warning if it is unusual."""

    text: str
    days: float
    warning: InputWarning | None


@dataclass(slots=True)
class Arrival:
    """When a request arrived: `text` is the instant in UTC, `day` its ordinal, `start` by `time.perf_counter`."""

    text: str
    day: int
    start: float


class Clock:
    """The time as text; the part that requests of one second share is formatted once."""

    def __init__(self) -> None:
        self._second = -1
        self._text, self._day = "", 0

    def now(self) -> Arrival:
        """The arrival of a request that arrives now."""
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            instant = dt.datetime.fromtimestamp(second, _UTC)
            self._text, self._day, self._second = instant.isoformat()[:19], instant.toordinal(), second
        return Arrival(f"{self._text}.{rest // 1000:06d}+00:00", self._day, time.perf_counter())


@dataclass(slots=True)
class RequestContext:
    """What the predictions of one request share; `logged` says whether lines for the log are wanted."""

    request_id: str
    arrival: Arrival
    stale_days: int
    logged: bool = True


@dataclass(slots=True)
class PredictionResult:
    """Responses, their lines for the log, and the names of what was warned of, for metrics."""

    responses: list[PredictionResponse]
    log_lines: bytes
    warned: list[str]


def read_as_of(value: object, today: int, stale_days: int) -> ScoringDay:
    """The day of an ISO text, today (an ordinal, UTC) for None. Raises RowsRejected."""
    day = _scoring_day(value, today, stale_days) if value is None or type(value) is str else None
    if day is None:
        expected = "a date such as 2014-01-20, or an instant such as 2014-01-20T12:00:00Z"
        raise RowsRejected([Violation(0, AS_OF, describe_value(value), expected)])
    return day


@lru_cache(maxsize=1024)  # the requests of a day name few of them
def _scoring_day(value: str | None, today: int, stale_days: int) -> ScoringDay | None:
    if value is None:
        return ScoringDay(dt.date.fromordinal(today).isoformat(), float(today - _EPOCH), None)
    day = _parse_day(value)
    if day is None:
        return None
    text, age = day.isoformat(), today - day.toordinal()
    warning = None
    if age > stale_days:
        warning = InputWarning(AS_OF, f"{text}, {age:,} days ago", f"within {stale_days} days of now")
    elif age < 0:
        warning = InputWarning(AS_OF, f"{text}, {-age:,} days ahead", "not after today")
    return ScoringDay(text, float(day.toordinal() - _EPOCH), warning)


def predict_one(arm: Arm, customer: dict[str, Any], context: RequestContext) -> PredictionResult:
    """Score one customer: the contract's columns, optionally the key, and `as_of`, which is taken out.

    Raises RowsRejected, and DataError for one that has no finite score.
    """
    day = read_as_of(customer.pop(AS_OF, None), context.arrival.day, context.stale_days)
    score = arm.model.customers.score(customer, day.days)
    response, line, names = _response(arm, customer, day, context, score)
    return PredictionResult([response], line, names)


def predict_many(
    arm: Arm, customers: Sequence[dict[str, Any]], as_of: object, context: RequestContext
) -> PredictionResult:
    """Score many customers at one `as_of`, their order kept. Raises RowsRejected if any of them is bad."""
    day = read_as_of(as_of, context.arrival.day, context.stale_days)
    for index, row in enumerate(customers):
        if not isinstance(row, dict):
            raise RowsRejected([Violation(index, "", describe_value(row), "a customer as a JSON object")])
    scores = arm.model.customers.score_many(customers, day.days)
    responses, lines, warned = [], [], []
    for row, score in zip(customers, scores, strict=True):
        response, line, names = _response(arm, row, day, context, score)
        responses.append(response)
        lines.append(line)
        warned += names
    return PredictionResult(responses, b"".join(lines), warned)


def _response(
    arm: Arm, row: dict[str, Any], day: ScoringDay, context: RequestContext, score: CustomerScore
) -> tuple[PredictionResponse, bytes, list[str]]:
    """The response to one row, its line for the log, and the names warned of. The key is taken out of the row."""
    scorer, arrival, warnings = arm.model.scorer, context.arrival, score.warnings
    contract, threshold = scorer.contract, scorer.thresholds.value
    if day.warning is not None:
        warnings.append(day.warning)
    names = [warning.column for warning in warnings]
    prediction_id = os.urandom(12).hex()
    customer_id = row.pop(contract.key.name, None)
    response = PredictionResponse(
        prediction_id, customer_id, score.probability, score.churn, threshold, score.risk_band, scorer.version,
        contract.name, day.text, arrival.text, warnings,
    )  # fmt: skip
    if not context.logged:
        return response, b"", names
    latency_us = float(int((time.perf_counter() - arrival.start) * 1e6))
    line = Prediction(
        prediction_id, context.request_id, customer_id, day.text, arrival.text, score.probability, score.margin,
        score.churn, threshold, score.risk_band, scorer.version, contract.name, contract.fingerprint, arm.name,
        arm.policy, OK, latency_us, names, row,
    )  # fmt: skip
    return response, encode_line(line), names


def _parse_day(value: str) -> dt.date | None:
    if not value.isascii() or len(value) > 40:
        return None
    try:
        if len(value) == 10:
            return dt.date.fromisoformat(value)
        instant = dt.datetime.fromisoformat(value)
        return (instant if instant.tzinfo is None else instant.astimezone(_UTC)).date()
    except (ValueError, OverflowError):
        return None
