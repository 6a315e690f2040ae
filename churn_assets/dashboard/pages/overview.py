"""The first page: which model answers, how the service does, what waits for a person, how true the scores are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from churn_assets.alerting.alerts import Entry
from churn_assets.alerting.watchdog import LoopCheck, check_loop
from churn_assets.dashboard.pages.models.release import shares_of
from churn_assets.dashboard.pages.models.versions import figure_of
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.evaluation.bootstrap import Figure
from churn_assets.html.charts import Axis, Chart, Line, compact, lines
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.performance.service import Requests, requests_between
from churn_assets.promotion.pointer import read_champion, read_refusal
from churn_assets.promotion.records import Challenger, DecisionRecord
from churn_assets.promotion.status import Event, read_events
from churn_assets.release.counts import read_counts
from churn_assets.release.policy import read_policy
from churn_assets.scoring.bundle import read_card, read_provenance

MOST_ACTIVITY = 12
COURSE_DAYS = 7
_LIVE = ("waiting_gate", "waiting_approval", "approved")
_COURSE = """
    SELECT epoch(date_trunc('hour', scored_at))::BIGINT AS hour, count(*) AS answers FROM answers
    WHERE scored_at >= ? AND scored_at < ? GROUP BY 1 ORDER BY 1
"""
_FRESHNESS = """
    SELECT (SELECT max(scored_at) FROM answers), (SELECT max(ingested_at) FROM segments),
        (SELECT max(received_at) FROM feedback)
"""


@dataclass(frozen=True)
class ModelInUse:
    """The champion: its version, kind of model, PR-AUC on test customers (None without one), and how it came."""

    version: str
    model: str
    since_at: dt.datetime
    by: str
    reason: str
    pr_auc: Figure | None
    generated: bool


@dataclass(frozen=True)
class Arm:
    """An arm of the policy; `weight` is the share of the customers that it shall have, 0 to 1, `share` the one that it
    has had under this policy, None before a row."""

    name: str
    version: str
    weight: float
    share: float | None


@dataclass(frozen=True)
class Routing:
    """The policy of the home; `in_force` is whether its champion is the pointer's: otherwise the champion answers."""

    policy: str
    kind: str
    arms: tuple[Arm, ...]
    in_force: bool
    by: str
    why: str
    at: dt.datetime


@dataclass(frozen=True)
class WaitingModel:
    """A challenger that has not answered yet; `pr_auc` is that on test customers."""

    version: str
    status: str
    message: str
    pr_auc: Figure | None
    since_at: dt.datetime


@dataclass(frozen=True)
class LastDecision:
    """The newest decision about retraining, with its reason."""

    number: int
    kind: str
    message: str
    at: dt.datetime


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is open."""

    title: str
    severity: str
    since_at: dt.datetime
    times: int


@dataclass(frozen=True)
class Traffic:
    """The requests since an instant. `fault_rate` counts those that failed by the service's fault."""

    period: str
    since_at: dt.datetime
    requests: Requests


@dataclass(frozen=True)
class HourlyAnswers:
    """Answers from an instant (seconds since 1970) to an hour later."""

    hour: int
    answers: int


@dataclass(frozen=True)
class Freshness:
    """Newest instants of the published log; None where there is none."""

    newest_answer_at: dt.datetime | None
    ingested_at: dt.datetime | None
    newest_label_at: dt.datetime | None
    report_made_at: dt.datetime | None


@dataclass(frozen=True)
class PeriodFigure:
    """PR-AUC of a window or month with its 95 % interval, over so many customers."""

    period: str
    pr_auc: Figure
    rows: int


@dataclass(frozen=True)
class Activity:
    """Something that happened; `who` is "" where nobody is named."""

    at: dt.datetime
    event: str
    subject: str
    who: str
    why: str


@dataclass(frozen=True)
class Overview:
    """The page. A part is None, or empty, where the home has nothing of it; `problems` say what cannot be read."""

    made_at: dt.datetime
    champion: ModelInUse | None
    refusal: str
    routing: Routing | None
    waiting: tuple[WaitingModel, ...]
    retraining: str
    decision: LastDecision | None
    alerts: tuple[OpenAlert, ...]
    loop: tuple[LoopCheck, ...]
    traffic: tuple[Traffic, ...]
    course: tuple[HourlyAnswers, ...]
    freshness: Freshness | None
    matured: PeriodFigure | None
    estimated: PeriodFigure | None
    performance: str
    activity: tuple[Activity, ...]
    problems: tuple[str, ...]


def read_overview(sources: Sources, parameters: Mapping[str, str]) -> Overview:
    """Everything that the first page shows."""
    settings, now, problems = sources.settings, sources.clock(), list[str]()
    ledger = sources.ledger
    champion = attempt(problems, lambda: _champion(sources))
    challengers = attempt(problems, lambda: ledger.challengers(*_LIVE)) or ()  # type: ignore[arg-type]
    requests = attempt(problems, lambda: ledger.requests("open", "started")) or ()
    decisions = attempt(problems, lambda: ledger.decisions(MOST_ACTIVITY)) or ()
    alerts = attempt(problems, sources.alerts) or []
    events = attempt(problems, lambda: read_events(settings)) or []
    report = attempt(problems, sources.performance)
    traffic = attempt(problems, lambda: _traffic(sources, now)) or ()
    return Overview(
        made_at=now,
        champion=champion,
        refusal=read_refusal(settings.home),
        routing=attempt(problems, lambda: _routing(sources, champion)),
        waiting=tuple(_waiting(sources, challenger, problems) for challenger in challengers),
        retraining="; ".join(f"{r.key} is {r.status}, attempt {r.attempt}" for r in requests),
        decision=_decision(decisions[0]) if decisions else None,
        alerts=tuple(OpenAlert(a.title, a.severity, a.opened_at, a.times) for a in alerts if a.closed_at is None),
        loop=tuple(check for check in check_loop(settings, now) if check.status == "overdue"),
        traffic=traffic,
        course=attempt(problems, lambda: _course(sources, now)) or (),
        freshness=attempt(problems, lambda: _freshness(sources, report)),
        matured=_matured(report),
        estimated=_estimated(report),
        performance=report.fall.message if report else "",
        activity=_activity(events, decisions, alerts),
        problems=tuple(dict.fromkeys(problems)),
    )


def draw_overview(page: Overview) -> dict[str, Chart]:
    """The course of the answers, if there were any."""
    if not page.course:
        return {}
    points = [(float(entry.hour), float(entry.answers)) for entry in page.course]
    start, end = points[0][0], page.made_at.timestamp()
    days = tuple(float(at) for at in range(int(start) // 86_400 * 86_400 + 86_400, int(end), 86_400))
    x = Axis("UTC", start, end, lambda at: f"{dt.datetime.fromtimestamp(at, dt.UTC):%d %b}", days)
    largest = max(answers for _, answers in points)
    chart = lines("Answers an hour", x, Axis("answers", 0.0, 1.05 * largest, compact), [Line("answers", points)])
    return {"course": chart}


def _champion(sources: Sources) -> ModelInUse | None:
    champion = read_champion(sources.settings.home)
    if champion is None:
        return None
    bundle = champion.path(sources.settings.home)
    card, provenance = read_card(bundle), read_provenance(bundle)
    return ModelInUse(
        version=champion.version,
        model=card.chosen,
        since_at=champion.since_at,
        by=champion.by,
        reason=champion.reason,
        pr_auc=figure_of(card, "test_pr_auc"),
        generated=bool(provenance.generated),
    )


def _routing(sources: Sources, champion: ModelInUse | None) -> Routing | None:
    policy = read_policy(sources.settings.home)
    if policy is None:
        return None
    shares = shares_of(policy, read_counts(sources.settings.home, policy.id))
    arms = tuple(Arm(arm.name, arm.version, arm.weight, shares.get(arm.name)) for arm in policy.arms)
    in_force = champion is not None and policy.champion.version == champion.version
    return Routing(policy.id, policy.kind, arms, in_force, policy.by, policy.why, policy.at)


def _waiting(sources: Sources, challenger: Challenger, problems: list[str]) -> WaitingModel:
    card = attempt(problems, lambda: read_card(sources.settings.home / challenger.bundle))
    pr_auc = figure_of(card, "test_pr_auc")
    return WaitingModel(challenger.version, challenger.status, challenger.message, pr_auc, challenger.changed_at)


def _decision(record: DecisionRecord) -> LastDecision:
    return LastDecision(record.number, record.decision.kind, record.decision.message, record.decided_at)


def _traffic(sources: Sources, now: dt.datetime) -> tuple[Traffic, ...]:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    hour, until = now.replace(minute=0, second=0, microsecond=0), midnight + dt.timedelta(days=1)  # results are kept
    periods = [("today (UTC)", midnight), ("24 full hours", hour - dt.timedelta(days=1))]
    periods.append(("7 days", midnight - dt.timedelta(days=7)))
    traffic = []
    for name, since in periods:
        question = partial(requests_between, since=since, until=until)
        requests = sources.log.ask(("requests", since, until), question)
        if requests is None:
            return ()
        traffic.append(Traffic(name, since, requests))
    return tuple(traffic)


def _course(sources: Sources, now: dt.datetime) -> tuple[HourlyAnswers, ...]:
    hour = now.replace(minute=0, second=0, microsecond=0)
    since, until = hour - dt.timedelta(days=COURSE_DAYS), hour + dt.timedelta(hours=1)
    values = [instant.replace(tzinfo=None) for instant in (since, until)]
    rows = sources.log.ask(("course", since), lambda db: db.execute(_COURSE, values).fetchall())
    known = dict(rows or ())
    first, last = int(since.timestamp()), int(until.timestamp())
    return tuple(HourlyAnswers(at, known.get(at, 0)) for at in range(first, last, 3600)) if known else ()


def _freshness(sources: Sources, report: PerformanceReport | None) -> Freshness | None:
    rows = sources.log.ask("freshness", lambda db: db.execute(_FRESHNESS).fetchall())
    if rows is None:
        return None
    newest, ingested, labelled = (None if at is None else at.replace(tzinfo=dt.UTC) for at in rows[0])
    return Freshness(newest, ingested, labelled, dt.datetime.fromisoformat(report.made_at) if report else None)


def _matured(report: PerformanceReport | None) -> PeriodFigure | None:
    periods = [(p.period, p.realized) for p in report.periods] if report else []
    known = [(name, r.metrics.pr_auc, r.rows) for name, r in periods if r.metrics is not None]
    return PeriodFigure(*known[-1]) if known else None


def _estimated(report: PerformanceReport | None) -> PeriodFigure | None:
    periods = [(p.period, p.estimated) for p in report.periods] if report else []
    known = [(name, e.metrics.pr_auc, e.rows) for name, e in periods if e.metrics is not None]
    return PeriodFigure(*known[-1]) if known else None


def _activity(events: list[Event], decisions: Sequence[DecisionRecord], alerts: list[Entry]) -> tuple[Activity, ...]:
    moved = (Activity(e.at, e.what, e.version, e.by, e.why) for e in events)
    decided = (
        Activity(
            d.decided_at,
            f"decision: {d.decision.kind.replace('_', ' ')}",
            d.request or "",
            d.decision.by,
            d.decision.message,
        )
        for d in decisions
    )
    raised = (Activity(a.opened_at, "alert", a.title, "", a.message) for a in alerts)
    ended = (Activity(a.closed_at, "alert ended", a.title, "", a.ending) for a in alerts if a.closed_at and a.ending)
    newest = sorted(chain(moved, decided, raised, ended), key=lambda activity: activity.at, reverse=True)
    return tuple(newest[:MOST_ACTIVITY])
