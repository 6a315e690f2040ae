"""Customers in, predictions and lines of the prediction log out; no HTTP here."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from churn_assets.contract.values import MAX_INSTANT, canonical_id, iso_day
from churn_assets.errors import RowsRejected, Violation, describe_value
from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.scoring.online import CustomerScore, InputWarning
from churn_assets.serving.routing.counts import SplitRows
from churn_assets.serving.routing.router import Arm
from churn_assets.serving.schemas import PredictionResponse

AS_OF = "as_of"
OK = "ok"
_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class ScoringDay:
    """The day at which customers are scored: ISO text, days since 1970-01-01, and a warning if it is unusual."""

    text: str
    days: float
    warning: InputWarning | None


class Clock:
    """The time as text; the part that requests of one second share is formatted once."""

    def __init__(self) -> None:
        self._second = -1
        self._text, self._day = "", 0

    def now(self) -> tuple[str, int, float]:
        """The instant in UTC as text, the ordinal of its day, and `time.perf_counter`."""
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            instant = dt.datetime.fromtimestamp(second, dt.UTC)
            self._text, self._day, self._second = instant.isoformat()[:19], instant.toordinal(), second
        return f"{self._text}.{rest // 1000:06d}+00:00", self._day, time.perf_counter()


@dataclass(slots=True)
class RequestContext:
    """What the predictions of one request share: who asked (`source`, the id of an API key), whether it is a trial
    (`test`), whether they are `logged`, and its arrival by `Clock.now`."""

    request_id: str
    source: str | None
    test: bool
    stale_days: int
    logged: bool
    arrived: str
    today: int
    start: float


@dataclass(slots=True)
class PredictionResult:
    """Responses, their lines for the log, and the names of what was warned of, for metrics. `split` is None where one
    arm has answered all."""

    responses: list[PredictionResponse]
    log_lines: bytes
    warned: list[str]
    split: SplitRows | None = None


def read_as_of(value: object, context: RequestContext) -> ScoringDay:
    """The day of an ISO text, today for None. Raises RowsRejected."""
    try:
        if value is not None and (type(value) is not str or len(value) > MAX_INSTANT):  # before the cache sees it
            raise ValueError
        return _scoring_day(value, context.today, context.stale_days)
    except (ValueError, OverflowError):
        expected = "a date such as 2014-01-20, or an instant such as 2014-01-20T12:00:00Z"
        raise RowsRejected([Violation(0, AS_OF, describe_value(value), expected)]) from None


@lru_cache(maxsize=1024)  # the requests of a day name few of them
def _scoring_day(value: str | None, today: int, stale_days: int) -> ScoringDay:
    if value is None:
        return ScoringDay(dt.date.fromordinal(today).isoformat(), float(today - _EPOCH), None)
    if not value.isascii():
        raise ValueError
    day = iso_day(value)
    if day is None or day in (dt.date.min, dt.date.max):  # in a column the last two mean "none"
        raise ValueError
    text, age = day.isoformat(), today - day.toordinal()
    warning = None
    if age > stale_days:
        warning = InputWarning(AS_OF, f"{text}, {age:,} days ago", f"within {stale_days} days of now")
    elif age < 0:
        warning = InputWarning(AS_OF, f"{text}, {-age:,} days ahead", "not after today")
    return ScoringDay(text, float(day.toordinal() - _EPOCH), warning)


def predict_one(arm: Arm, customer: dict[str, Any], context: RequestContext) -> PredictionResult:
    """Score one customer: the contract's columns, optionally the key, and `as_of`, which is taken out. Raises
    RowsRejected, and DataError for one that has no finite score."""
    day = read_as_of(customer.pop(AS_OF, None), context)
    score = arm.model.customers.score(customer, day.days)
    response, line, names = respond(arm, customer, day, context, score)
    return PredictionResult([response], line, names)


def predict_many(
    arm: Arm, customers: Sequence[dict[str, Any]], as_of: object, context: RequestContext
) -> PredictionResult:
    """Score many customers at one `as_of`, their order kept. Raises RowsRejected if any of them is bad."""
    day = read_as_of(as_of, context)
    check_objects(customers)
    scores = arm.model.customers.score_many(customers, day.days)
    responses, lines, warned = [], [], []
    for row, score in zip(customers, scores, strict=True):
        response, line, names = respond(arm, row, day, context, score)
        responses.append(response)
        lines.append(line)
        warned += names
    return PredictionResult(responses, b"".join(lines), warned)


def check_objects(customers: Sequence[object]) -> None:
    """Raise RowsRejected for what is no JSON object."""
    for index, row in enumerate(customers):
        if not isinstance(row, dict):
            raise RowsRejected([Violation(index, "", describe_value(row), "a customer as a JSON object")])


def new_prediction_id() -> str:
    """An id that no other prediction has."""
    return os.urandom(12).hex()


def respond(
    arm: Arm,
    row: dict[str, Any],
    day: ScoringDay,
    context: RequestContext,
    score: CustomerScore,
    prediction_id: str = "",
    status: str = OK,
) -> tuple[PredictionResponse, bytes, list[str]]:
    """The response to one row, its line for the log, and the names warned of. The row becomes what is logged: without
    the key, and with choices as texts."""
    scorer, warnings = arm.model.scorer, score.warnings
    contract, threshold = scorer.contract, scorer.thresholds.value
    if day.warning is not None:
        warnings.append(day.warning)
    names = [warning.column for warning in warnings]
    prediction_id = prediction_id or new_prediction_id()
    customer_id = canonical_id(row.pop(contract.key.name, None))
    arm.model.customers.make_loggable(row, names)
    response = PredictionResponse(
        prediction_id, customer_id, score.probability, score.churn, threshold, score.risk_band, scorer.version,
        contract.name, day.text, context.arrived, warnings,
    )  # fmt: skip
    if not context.logged:
        return response, b"", names
    latency_us = float(int((time.perf_counter() - context.start) * 1e6))
    line = Prediction(
        prediction_id, context.request_id, customer_id, day.text, context.arrived, score.probability, score.margin,
        score.churn, threshold, score.risk_band, scorer.version, contract.name, contract.fingerprint, arm.name,
        arm.policy, status, latency_us, names, row, context.source, context.test,
    )  # fmt: skip
    return response, encode_line(line), names
