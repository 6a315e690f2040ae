"""Try a customer: a form from the contract, and what the running service answers."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median_low, mode
from typing import Any

import pyarrow as pa

from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.dashboard.pages.call_data import read_call_data
from churn_assets.dashboard.service_client import ask_service
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.html.charts import Axis, Chart, Mark, intervals
from churn_assets.promotion.pointer import read_champion
from churn_assets.release.policy import CHAMPION, read_policy, share_of
from churn_assets.scoring.bundle import read_card, read_reference
from churn_assets.scoring.scorer import BAND_NAMES

_MEDIAN_ROWS = 1000
MOST_TOPICS = 10


@dataclass(frozen=True)
class FormField:
    """An entry of the form; `options` are empty for a text, `optional` fields may be empty."""

    name: str
    kind: str
    doc: str
    unit: str
    value: str
    options: tuple[str, ...]
    optional: bool


@dataclass(frozen=True)
class Topic:
    """What a column adds to the customer's log-odds, positive towards churn."""

    topic: str
    contribution: float


@dataclass(frozen=True)
class Trial:
    """What the service answered; `arm` is the policy's that answers this customer; `changes` are sentences, the
    problems those of the single questions. Reasons and changes are those of the champion, `explained`."""

    probability: float | None = None
    churn: bool = False
    threshold: float | None = None
    risk_band: str = ""
    version: str = ""
    arm: str = ""
    prediction_id: str = ""
    ms: float | None = None
    warnings: tuple[str, ...] = ()
    topics: tuple[Topic, ...] = ()
    reasons: tuple[str, ...] = ()
    explained: str = ""
    changes: tuple[str, ...] = ()
    problem: str = ""
    explanation_problem: str = ""
    change_problem: str = ""


@dataclass(frozen=True)
class TryCustomer:
    """The page: the form, samples of the call list by risk band, and the answer once one was asked for."""

    fields: tuple[FormField, ...]
    samples: tuple[str, ...]
    sample: str
    service: str
    trial: Trial | None = None
    problems: tuple[str, ...] = field(default=())


def read_try(sources: Sources, parameters: Mapping[str, str]) -> TryCustomer:
    """The form, filled with typical values, or with those of a customer of the risk band `sample`."""
    problems, sample = list[str](), parameters.get("sample", "")
    contract = attempt(problems, sources.contract)
    values: dict[str, Any] = {}
    samples: tuple[str, ...] = ()
    if contract is not None:
        values = attempt(problems, lambda: _typical(sources, contract)) or {}
        known = attempt(problems, lambda: _samples(sources)) or {}
        samples = tuple(known)
        values.update(known.get(sample, {}))
    fields = tuple(_field(column, values.get(column.name)) for column in _columns(contract)) if values else ()
    if fields:
        fields = (*fields, _as_of_field(values.get("as_of")))
    chosen, service = sample if sample in samples else "", sources.dashboard.service_url
    return TryCustomer(fields, samples, chosen, service, None, tuple(problems))


def try_customer(sources: Sources, form: Mapping[str, str], token: str) -> TryCustomer:
    """The same with the form as it was sent, and the service's answer."""
    page = read_try(sources, {})
    fields = tuple(replace(entry, value=form.get(entry.name, "")) for entry in page.fields)
    question = {entry.name: _parsed(entry) for entry in fields if entry.value != "" or not _left_out(entry)}
    return replace(page, fields=fields, trial=_ask(sources, question, token))


def draw_try(page: TryCustomer) -> dict[str, Chart]:
    """What each column adds, as bars from zero."""
    if page.trial is None or not page.trial.topics:
        return {}
    rows = []
    for topic in page.trial.topics[:MOST_TOPICS]:
        ends = sorted((0.0, topic.contribution))
        style = "churned" if topic.contribution > 0 else "kept"
        rows.append((topic.topic, [Mark(topic.contribution, ends[0], ends[1], style)]))
    largest = max(abs(topic.contribution) for topic in page.trial.topics) or 1.0
    axis = Axis("log-odds, right: towards churn", -largest, largest)
    return {"topics": intervals("What each column adds", rows, axis, marks=[0.0])}


def _ask(sources: Sources, question: Mapping[str, object], token: str) -> Trial:
    url = sources.dashboard.service_url
    reply = ask_service(url, "/predict", question, token)
    if reply.problem:
        return Trial(problem=reply.problem)
    answer = reply.body
    trial = Trial(
        probability=answer["churn_probability"],
        churn=answer["churn"],
        threshold=answer["threshold"],
        risk_band=answer["risk_band"],
        version=answer["model_version"],
        arm=_arm(sources, answer),
        prediction_id=answer["prediction_id"],
        ms=reply.ms,
        warnings=tuple(f"{w['column']}: {w['found']}, expected {w['expected']}" for w in answer["warnings"]),
    )
    why, change = (ask_service(url, path, question, token) for path in ("/explain", "/counterfactual"))
    if why.problem:
        trial = replace(trial, explanation_problem=why.problem)
    else:
        topics = tuple(Topic(t["topic"], t["contribution"]) for t in why.body["topics"])
        reasons, explained = tuple(r["text"] for r in why.body["reasons"]), why.body["model_version"]
        trial = replace(trial, topics=topics, reasons=reasons, explained=explained)
    if change.problem:
        return replace(trial, change_problem=change.problem)
    return replace(trial, changes=_changes(change.body))


def _arm(sources: Sources, answer: Mapping[str, Any]) -> str:
    """The arm that answers this customer by the policy in force; "" where that is not the model that answered."""
    policy = attempt([], lambda: read_policy(sources.settings.home))
    champion = attempt([], lambda: read_champion(sources.settings.home))
    version = answer["model_version"]
    if policy is None or champion is None or policy.champion.version != champion.version:
        return CHAMPION if champion is not None and champion.version == version else ""
    arm = policy.choose(share_of(policy.salt, answer["customer_id"] or answer["prediction_id"]))
    if arm.version == version:
        return arm.name
    return f"{CHAMPION}, in place of {arm.name}" if version == champion.version else ""


def _changes(body: Mapping[str, Any]) -> tuple[str, ...]:
    if body["status"] == "below_threshold":
        return ("Nothing need change: the customer is below the threshold.",)
    if not body["counterfactuals"]:
        columns = ", ".join(body["changeable"]) or "none, by the contract"
        return (f"No change that was tried is enough; columns that may change: {columns}.",)
    return tuple(
        " and ".join(f"{c['column']} from {c['before']} to {c['after']}" for c in option["changes"])
        + f": probability {option['churn_probability']:.1%}"
        for option in body["counterfactuals"]
    )


def _columns(contract: Contract | None) -> tuple[Column, ...]:
    return () if contract is None else (contract.key, *contract.scoring_columns)


def _as_of_field(value: object) -> FormField:
    return FormField("as_of", "date", "Day of these values; empty: today.", "", str(value or ""), (), True)


def _field(column: Column, value: object) -> FormField:
    options: tuple[str, ...] = ()
    optional = column.nullable or column.role is Role.KEY
    if column.kind in (Kind.BOOLEAN, Kind.CATEGORY):
        choices = ("true", "false") if column.kind is Kind.BOOLEAN else column.choices
        options = ("", *choices) if optional else tuple(choices)
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return FormField(column.name, str(column.kind), column.doc, column.unit, text, options, optional)


def _left_out(entry: FormField) -> bool:
    """Whether an empty entry is not sent at all: the customer's id and the day need not be named."""
    return entry.kind == "id" or entry.name == "as_of"


def _parsed(entry: FormField) -> object:
    """The entry as the service takes it; other text goes as it is, and the service says what is wrong."""
    text = entry.value.strip()
    if text == "":
        return None
    if entry.kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if entry.kind in ("number", "integer"):
        try:
            number = float(text)
        except ValueError:
            return text
        if not math.isfinite(number):
            return text
        return int(number) if entry.kind == "integer" and number.is_integer() else number
    return text


def _typical(sources: Sources, contract: Contract) -> dict[str, Any]:
    """The middle of the training rows in each column; empty before the first champion. Raises BundleCorrupt."""
    champion = read_champion(sources.settings.home)
    if champion is None:
        return {}
    bundle = champion.path(sources.settings.home)
    table = read_reference(bundle)
    rows = table.slice(0, _MEDIAN_ROWS)
    values: dict[str, Any] = {"as_of": read_card(bundle).as_of}
    for column in contract.scoring_columns:
        if column.name in rows.column_names:
            values[column.name] = _middle(column.kind, rows[column.name].drop_null())
    return values


def _middle(kind: Kind, cells: pa.ChunkedArray) -> Any:
    known = sorted(cells.to_pylist())
    if not known:
        return None
    if kind in (Kind.CATEGORY, Kind.BOOLEAN):
        return mode(known)
    value = median_low(known)
    if kind is Kind.INTEGER:
        return int(value)
    return round(float(value), 3) if kind is Kind.NUMBER else value


def _samples(sources: Sources) -> dict[str, dict[str, Any]]:
    """A customer of each risk band, the one in its middle, with the columns of the table."""
    data = read_call_data(sources)
    if data is None:
        return {}
    bands = data.listed["risk_band"].to_pylist()
    samples = {}
    for band in BAND_NAMES:
        places = [place for place, name in enumerate(bands) if name == band]
        if places:
            row = data.customers.slice(places[len(places) // 2], 1).to_pylist()[0]
            as_of = data.listed["as_of"][0].as_py()
            samples[band] = {**row, "as_of": as_of if isinstance(as_of, dt.date) else None}
    return samples
