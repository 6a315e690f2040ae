"""One customer: place on the list, own columns, scores over time, outcomes and contacts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from churn_assets.contract.values import canonical_id
from churn_assets.dashboard.pages.call_data import CallData, read_call_data
from churn_assets.dashboard.sources import Mark, Sources, attempt
from churn_assets.html.charts import Axis, Chart, Line, lines
from churn_assets.scoring.call_list import REASON_COLUMNS

MOST_SCORES = 100  # the newest
_SCORES = f"""
    SELECT prediction_id, scored_at, score, risk_band, decision, model_version, arm FROM answers WHERE customer_id = ?
    ORDER BY seq DESC LIMIT {MOST_SCORES}
"""
_OUTCOMES = """
    SELECT churned, observed_at, contacted, received_at FROM outcomes_of(?) ORDER BY received_at
"""


@dataclass(frozen=True)
class Score:
    """One answer of the service."""

    prediction_id: str
    scored_at: dt.datetime
    score: float
    risk_band: str
    decision: bool
    model_version: str
    arm: str


@dataclass(frozen=True)
class Outcome:
    """A report on what became of the customer."""

    churned: bool
    observed_at: dt.datetime
    contacted: bool | None
    received_at: dt.datetime


@dataclass(frozen=True)
class Cell:
    """A column of the customer as the table has it, as text; `unit` "" without one."""

    column: str
    value: str
    unit: str
    doc: str


@dataclass(frozen=True)
class Customer:
    """The page; figures of the list are None where the customer is not on it."""

    customer_id: str
    rank: int | None
    churn_probability: float | None
    risk_band: str
    customer_value: float | None
    expected_value: float | None
    control: bool
    version: str
    reasons: tuple[str, ...]
    cells: tuple[Cell, ...]
    scores: tuple[Score, ...]
    outcomes: tuple[Outcome, ...]
    marks: tuple[Mark, ...]
    problems: tuple[str, ...]


def read_customer(sources: Sources, parameters: Mapping[str, str]) -> Customer:
    """The customer whose `id` the parameters have. Raises HTTPException for one that neither list nor log knows."""
    customer_id = canonical_id(parameters.get("id", ""))
    problems = list[str]()
    if customer_id is None:
        raise HTTPException(404, "the customer has no id, expected ?id= with the id of a customer of /calls")
    data = attempt(problems, lambda: read_call_data(sources))
    row, cells = _listed(data, customer_id)
    scores = attempt(problems, lambda: _scores(sources, customer_id)) or ()
    outcomes = attempt(problems, lambda: _outcomes(sources, customer_id)) or ()
    marks = (attempt(problems, sources.contacts) or {}).get(customer_id, ())
    if not (row or scores or outcomes or marks or problems):
        raise HTTPException(404, f"there is no customer {customer_id[:60]!r} in list and log, expected one of /calls")
    return Customer(
        customer_id=customer_id,
        rank=row.get("rank"),
        churn_probability=row.get("churn_probability"),
        risk_band=row.get("risk_band") or "",
        customer_value=row.get("customer_value"),
        expected_value=row.get("expected_value"),
        control=bool(row.get("control")),
        version=row.get("model_version") or "",
        reasons=tuple(row[name] for name in REASON_COLUMNS if row.get(name)),
        cells=cells,
        scores=scores,
        outcomes=outcomes,
        marks=marks,
        problems=tuple(problems),
    )


def draw_customer(page: Customer) -> dict[str, Chart]:
    """The scores over time, if there are several."""
    if len(page.scores) < 2:
        return {}
    points = [(score.scored_at.timestamp(), score.score) for score in reversed(page.scores)]
    first, last = points[0][0], points[-1][0]
    if last <= first:
        return {}
    x = Axis("UTC", first, last, lambda at: f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d}", (first, last))
    line = Line("churn probability", points, dots=True)
    return {"scores": lines("Score over time", x, Axis("churn probability", 0.0, 1.0), [line])}


def _listed(data: CallData | None, customer_id: str) -> tuple[dict[str, Any], tuple[Cell, ...]]:
    if data is None:
        return {}, ()
    import pyarrow.compute as pc

    place = pc.index(data.listed["customer_id"], customer_id).as_py()
    if place < 0:
        return {}, ()
    row = data.listed.slice(place, 1).to_pylist()[0]
    own = data.customers.slice(place, 1).to_pylist()[0]
    columns = (column for column in data.contract.scoring_columns if column.name in own)
    return row, tuple(Cell(c.name, _text(own[c.name]), c.unit, c.doc) for c in columns)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def _scores(sources: Sources, customer_id: str) -> tuple[Score, ...]:
    rows = sources.log.ask(("scores", customer_id), lambda db: db.execute(_SCORES, [customer_id]).fetchall()) or []
    return tuple(Score(own_id, _utc(at), *rest) for own_id, at, *rest in rows)


def _outcomes(sources: Sources, customer_id: str) -> tuple[Outcome, ...]:
    rows = sources.log.ask(("outcomes", customer_id), lambda db: db.execute(_OUTCOMES, [customer_id]).fetchall()) or []
    return tuple(Outcome(churned, _utc(seen), contacted, _utc(at)) for churned, seen, contacted, at in rows)


def _utc(at: dt.datetime) -> dt.datetime:
    return at.replace(tzinfo=dt.UTC)
