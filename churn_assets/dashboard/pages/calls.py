"""The call list: whom to contact first, what that is expected to bring at a capacity and a budget, and in which
segments the money is lost."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from starlette.exceptions import HTTPException

from churn_assets.dashboard.pages.call_data import CallData, read_call_data, read_importance
from churn_assets.dashboard.pages.selection import as_query
from churn_assets.dashboard.sources import Mark as ContactMark
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.html.charts import Axis, Chart, Line, bars, compact, histogram, lines
from churn_assets.promotion.status import SCORE_AGAIN
from churn_assets.scoring.budget import Plan, plan_listed
from churn_assets.scoring.call_list import RISK_BAND, Segment
from churn_assets.scoring.call_sheet import call_sheet, write_call_sheet
from churn_assets.scoring.list_money import list_money
from churn_assets.scoring.scorer import BAND_NAMES

Mask = npt.NDArray[np.bool_]

ROWS, FIRST, MOST_POINTS, RISK_BINS = 25, 10, 10, 20
SUFFIXES = ("csv", "xlsx")


@dataclass(frozen=True)
class CallRow:
    """A customer of the list. `planned`: within the plan; `reasons` why the score is high; `marks` are contact events
    of the log, the newest first."""

    rank: int
    customer_id: str
    churn_probability: float
    risk_band: str
    customer_value: float
    expected_value: float
    control: bool
    planned: bool
    reasons: tuple[str, ...]
    marks: tuple[ContactMark, ...]


@dataclass(frozen=True)
class Choice:
    """What the reader has chosen: filters, capacity, budget (None: any) and the part of the list, from 1 on."""

    band: str
    column: str
    level: str
    reason: str
    planned: bool
    capacity: int
    budget: float | None
    part: int

    def query(self, **changed: object) -> str:
        """The choice as a query, with some parts changed."""
        return as_query({**dataclasses.asdict(self), **changed})


@dataclass(frozen=True)
class ProfitPoint:
    """What a list of so many contacts is expected to bring, with its 95 % interval."""

    contacts: int
    profit: float
    low: float
    high: float


@dataclass(frozen=True)
class Insight:
    """A sentence, and the query that shows its customers."""

    text: str
    query: str


@dataclass(frozen=True)
class Calls:
    """The page. `matched` customers fit the filters, `rows` are those of this part, `first` the best of the plan whom
    nobody has contacted. `levels` are those of the chosen column; `edges` and `counts` are customers by churn
    probability; `segments` are of the chosen column, else of the risk bands. `largest_budget` pays for everybody."""

    choice: Choice
    version: str
    stale: str
    as_of: dt.date | None
    customers: int
    largest_capacity: int
    largest_budget: float
    plan: Plan | None
    curve: tuple[ProfitPoint, ...]
    matched: int
    parts: int
    rows: tuple[CallRow, ...]
    first: tuple[CallRow, ...]
    bands: tuple[str, ...]
    columns: tuple[str, ...]
    levels: tuple[str, ...]
    reasons: tuple[str, ...]
    segments: tuple[Segment, ...]
    insights: tuple[Insight, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    importance: tuple[tuple[str, float], ...]
    problems: tuple[str, ...]


def read_calls(sources: Sources, parameters: Mapping[str, str]) -> Calls:
    """The list with the filters, capacity and budget of the parameters. Raises HTTPException for one that cannot be."""
    problems = list[str]()
    data = attempt(problems, lambda: read_call_data(sources))
    importance = attempt(problems, lambda: read_importance(sources)) or ()
    if data is None or not data.listed.num_rows:
        return _no_list(importance, problems)
    choice = read_choice(data, parameters)
    plan = _plan(data, choice.capacity, choice.budget)
    planned = _planned(data, plan)
    kept = _kept(data, choice, planned)
    chosen = kept[(choice.part - 1) * ROWS : choice.part * ROWS]
    marks = attempt(problems, sources.contacts) or {}
    probability = data.listed["churn_probability"].to_numpy()
    counts, edges = np.histogram(probability, np.linspace(0.0, 1.0, RISK_BINS + 1))
    shown = choice.column or RISK_BAND
    return Calls(
        choice=choice,
        version=data.version,
        stale="" if data.version == data.champion else _stale(data),
        as_of=data.listed["as_of"][0].as_py(),
        customers=data.listed.num_rows,
        largest_capacity=data.listed.num_rows,
        largest_budget=data.listed.num_rows * data.value.offer_cost,
        plan=plan,
        curve=_curve(data, choice.budget),
        matched=len(kept),
        parts=max(1, -(-len(kept) // ROWS)),
        rows=_rows(data, chosen, planned, marks),
        first=_rows(data, _first(data, planned, marks), planned, marks),
        bands=BAND_NAMES,
        columns=data.columns,
        levels=tuple(sorted(set(data.levels(choice.column).tolist()))) if choice.column else (),
        reasons=_common_reasons(data),
        segments=tuple(segment for segment in data.segments if segment.column == shown),
        insights=_insights(data, choice, plan),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        importance=importance,
        problems=tuple(problems),
    )


def draw_calls(page: Calls) -> dict[str, Chart]:
    """Profit by the length of the list, customers by risk, importance of features."""
    charts: dict[str, Chart] = {}
    if page.curve:
        ends = [0.0, *(point.low for point in page.curve), *(point.high for point in page.curve)]
        low, high = min(ends), max(ends)
        line = Line(
            "expected profit",
            [(float(p.contacts), p.profit) for p in page.curve],
            band=[(float(p.contacts), p.low, p.high) for p in page.curve],
        )
        x = Axis("customers contacted", 0.0, float(page.curve[-1].contacts), compact)
        y = Axis("profit", low, high if high > low else low + 1.0, compact)
        marks = [float(page.plan.contacts)] if page.plan else []
        charts["profit"] = lines("Expected profit by list size, with its 95 % interval", x, y, [line], marks)
    if page.counts:
        axis = Axis("churn probability", 0.0, 1.0)
        charts["risk"] = histogram("Customers by risk", axis, page.edges, page.counts)
    if page.importance:
        charts["importance"] = bars(
            "Importance of features", dict(page.importance[:12]), "log-odds, mean of its size", "{:.3g}".format, "a"
        )
    return charts


def export(sources: Sources, parameters: Mapping[str, str], suffix: str) -> bytes:
    """The customers of the filters as a sheet for people, `csv` or `xlsx`. Raises HTTPException without a list."""
    data = read_call_data(sources)
    if data is None or suffix not in SUFFIXES:
        raise HTTPException(404, "there is no list to export, expected a scored one as csv or xlsx; make it: churn run")
    choice = read_choice(data, parameters)
    planned = _planned(data, _plan(data, choice.capacity, choice.budget))
    kept = pa.array(_kept(data, choice, planned), pa.int64())
    calls, contract = data.listed.take(kept), data.contract
    contact = pa.array([bool(planned[row]) for row in kept.to_pylist()], pa.bool_())
    calls = calls.set_column(calls.schema.get_field_index("contact"), "contact", contact)
    value = dataclasses.replace(data.value, capacity=choice.capacity)
    money = list_money(calls, value, data.discount, data.listed.num_rows)
    sheet = call_sheet(calls, data.customers.take(kept), contract, money)
    with tempfile.TemporaryDirectory() as folder:
        path, *_ = write_call_sheet(sheet, Path(folder) / f"call_list.{suffix}")
        return io.BytesIO(path.read_bytes()).getvalue()


def read_choice(data: CallData, parameters: Mapping[str, str]) -> Choice:
    """The choice of a query. Raises HTTPException for a value that cannot be."""
    customers = data.listed.num_rows
    usual = customers if data.value.capacity is None else min(customers, data.value.capacity)
    band, column = parameters.get("band", ""), parameters.get("column", "")
    if band not in ("", *BAND_NAMES):
        raise HTTPException(400, f"band is {band[:20]!r}, expected one of: {', '.join(BAND_NAMES)}")
    if column not in ("", *data.columns):
        raise HTTPException(400, f"column is {column[:40]!r}, expected one of: {', '.join(data.columns)}")
    budget = parameters.get("budget", "")
    return Choice(
        band=band,
        column=column,
        level=parameters.get("level", "") if column else "",
        reason=parameters.get("reason", "")[:200],
        planned=parameters.get("planned", "") == "1",
        capacity=round(_number(parameters, "capacity", float(usual), float(customers))),
        budget=_number(parameters, "budget", 0.0, 1e12) if budget else None,
        part=max(1, round(_number(parameters, "part", 1.0, 1e6))),
    )


def _number(parameters: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = parameters.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not 0.0 <= value <= most:
        raise HTTPException(400, f"{name} is {text[:20]!r}, expected a number from 0 to {most:,.0f}")
    return value


def _plan(data: CallData, capacity: int, budget: float | None) -> Plan:
    value = dataclasses.replace(data.value, capacity=capacity)
    spent = data.listed.num_rows * value.offer_cost if budget is None else budget
    return plan_listed(data.listed, value, data.discount, spent)


def _planned(data: CallData, plan: Plan) -> Mask:
    """Whether each customer is within the plan: the first so many of the list, the control group left out."""
    planned: Mask = data.eligible & (np.cumsum(data.eligible) <= plan.contacts)
    return planned


def _first(data: CallData, planned: Mask, marks: Mapping[str, tuple[ContactMark, ...]]) -> list[int]:
    """Row numbers of the best of the plan of whom there is no contact event."""
    ids = data.listed["customer_id"]
    waiting = (int(row) for row in np.flatnonzero(planned) if ids[int(row)].as_py() not in marks)
    return list(islice(waiting, FIRST))


def _curve(data: CallData, budget: float | None) -> tuple[ProfitPoint, ...]:
    sizes = np.unique(np.linspace(0, data.listed.num_rows, MOST_POINTS + 1).round().astype(int))
    plans = [_plan(data, int(size), budget) for size in sizes]
    known = {plan.contacts: ProfitPoint(plan.contacts, plan.net_value, plan.low, plan.high) for plan in plans}
    return tuple(known[contacts] for contacts in sorted(known))


def _kept(data: CallData, choice: Choice, planned: Mask) -> list[int]:
    """Row numbers that fit the filters, in the order of the list."""
    kept = np.ones(data.listed.num_rows, dtype=bool)
    if choice.band:
        kept &= data.bands == choice.band
    if choice.column and choice.level:
        kept &= data.levels(choice.column) == choice.level
    if choice.reason:
        wanted = choice.reason.lower()
        kept &= np.array([any(wanted in text.lower() for text in texts) for texts in data.reasons], dtype=bool)
    if choice.planned:
        kept &= planned
    return [int(row) for row in np.flatnonzero(kept)]


def _common_reasons(data: CallData) -> tuple[str, ...]:
    """The most frequent first reasons by what they are about: the words before the first number or colon."""
    return tuple(head for head, _ in Counter(filter(None, data.heads)).most_common(8))


def _rows(
    data: CallData, chosen: Sequence[int], planned: Mask, marks: Mapping[str, tuple[ContactMark, ...]]
) -> tuple[CallRow, ...]:
    taken = data.listed.take(pa.array(chosen, pa.int64()))
    return tuple(
        CallRow(
            rank=row["rank"],
            customer_id=row["customer_id"],
            churn_probability=row["churn_probability"],
            risk_band=row["risk_band"],
            customer_value=row["customer_value"],
            expected_value=row["expected_value"],
            control=row["control"],
            planned=bool(planned[place]),
            reasons=data.reasons[place],
            marks=marks.get(row["customer_id"], ()),
        )
        for place, row in zip(chosen, taken.to_pylist(), strict=True)
    )


def _insights(data: CallData, choice: Choice, plan: Plan) -> tuple[Insight, ...]:
    segments = data.segments
    insights = [
        Insight(
            f"Contacting the first {plan.contacts:,} customers is expected to bring {plan.net_value:,.0f} "
            f"({plan.low:,.0f} to {plan.high:,.0f}) after {plan.cost:,.0f} for offers; {plan.limit} ends the list.",
            choice.query(planned=True, band="", column="", level="", reason="", part=1),
        )
    ]
    bands = [s for s in segments if s.column == RISK_BAND and s.segment == BAND_NAMES[-1]]
    insights += [
        Insight(
            f"{s.customers:,} customers are at high risk: {s.customers / data.listed.num_rows:.0%} of all, with "
            f"{s.share_of_loss:.0%} of the expected loss.",
            choice.query(band=s.segment, column="", level="", reason="", planned=False, part=1),
        )
        for s in bands
    ]
    by_rate = [s for s in segments if s.column != RISK_BAND and s.customers >= 30]
    if by_rate:
        worst = max(by_rate, key=lambda s: s.mean_probability)
        mean = float(data.listed["churn_probability"].to_numpy().mean())
        insights.append(
            Insight(
                f"Where {worst.column} is {worst.segment}, {worst.mean_probability:.1%} are expected to leave "
                f"({mean:.1%} of all): {worst.expected_churners:,.0f} of {worst.customers:,}.",
                choice.query(band="", column=worst.column, level=worst.segment, reason="", planned=False, part=1),
            )
        )
    heads = Counter(filter(None, data.heads[: max(1, plan.contacts)]))
    insights += [
        Insight(
            f"The most frequent first reason among them is '{head}': {count:,} customers.",
            choice.query(band="", column="", level="", reason=head, planned=True, part=1),
        )
        for head, count in heads.most_common(1)
    ]
    return tuple(insights)


def _no_list(importance: tuple[tuple[str, float], ...], problems: Sequence[str]) -> Calls:
    return Calls(
        choice=Choice("", "", "", "", False, 0, None, 1),
        version="",
        stale="",
        as_of=None,
        customers=0,
        largest_capacity=0,
        largest_budget=0.0,
        plan=None,
        curve=(),
        matched=0,
        parts=0,
        rows=(),
        first=(),
        bands=(),
        columns=(),
        levels=(),
        reasons=(),
        segments=(),
        insights=(),
        edges=(),
        counts=(),
        importance=importance,
        problems=tuple(problems),
    )


def _stale(data: CallData) -> str:
    return (
        f"The list is of model {data.version}, and champion {data.champion} answers now; score the customers with it: "
        f"{SCORE_AGAIN}"
    )
