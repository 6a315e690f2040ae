"""The release that runs: who answers whom, its guardrails, and what the log shows of its arms.

Arms and pairs are those that the service's processes count, a second old; the comparison of the arms is that of
`churn release compare`, without labels, of the last ingest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.html.charts import Axis, Chart, Mark, intervals
from churn_assets.promotion.pointer import ChampionPointer
from churn_assets.promotion.rollout.policies import Policies
from churn_assets.promotion.rollout.status import ReleaseStatus, live_counts, read_release_status
from churn_assets.release.analysis import ReleaseAnalysis, analyse, rollout
from churn_assets.release.counts import PairCounts, ReleaseCounts, counts_folder, read_counts
from churn_assets.release.guardrails import TITLES, GuardrailCheck, GuardrailReport, more_rows, read_report
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy
from churn_assets.reporting.release.collect import PAGE
from churn_assets.reporting.release.page import difference_chart

if TYPE_CHECKING:
    import duckdb

_MEASURES = {"called": "share called", "score": "mean score", "churned": "churned share", "log_loss": "log-loss"}
_UNREADABLE = "cannot be read; the guard writes it again"


@dataclass(frozen=True)
class ArmState:
    """An arm of the policy. `weight` is the share of the customers that it shall have, `share` the one that it had in
    this step, None before a row; its rows are those of the whole release."""

    name: str
    version: str
    weight: float
    share: float | None
    rows: int
    errors: int
    refused: int
    called_share: float | None
    mean_score: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class StepState:
    """A step of a canary, held for `hold_minutes` and `rows` of the challenger at least; of the present one `until` is
    when its time is over, `has_rows` how many rows it has."""

    number: int
    weight: float
    hold_minutes: float
    rows: int
    state: Literal["done", "now", "to come"]
    has_rows: int | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True)
class Guardrail:
    """A check as the guard judged it. `more_rows`: about how many more rows of the arm decide it, None where that is
    not to be told."""

    title: str
    check: GuardrailCheck
    more_rows: int | None


@dataclass(frozen=True)
class PairState:
    """Rows that both models have scored. A flip is a row that one calls and the other does not; differences are
    challenger minus champion."""

    rows: int
    flips: int
    agreement: float
    mean_difference: float
    sd_difference: float
    dropped: int


@dataclass(frozen=True)
class ReleaseState:
    """The policy in force, and while it is a release how that stands. `guard` is the guard's newest report, None before
    the first; `analysis` is of the log, None before an ingest; `ended` says how the last release ended, "" while one
    runs; `report` whether there is a page of the loop about it."""

    policy: str
    kind: str
    is_running: bool
    arms: tuple[ArmState, ...]
    steps: tuple[StepState, ...]
    waits_for: str
    deadline_at: dt.datetime | None
    rows: int
    pairs: PairState | None
    guard: GuardrailReport | None
    guardrails: tuple[Guardrail, ...]
    analysis: ReleaseAnalysis | None
    ended: str
    report: str
    by: str
    why: str
    since_at: dt.datetime


def read_release(sources: Sources, problems: list[str]) -> ReleaseState | None:
    """How the release stands; None while no policy is in force. Nothing is written: what a killed process left is
    finished by the next move. What cannot be read is among the `problems`."""
    home = sources.settings.home
    policies = Policies(sources.ledger, ChampionPointer(home), sources.clock)
    status = attempt(problems, lambda: read_release_status(sources.ledger, policies, home))
    if status is None or status.policy is None:
        return None
    if status.problem:
        problems.append(status.problem)
    policy = status.policy
    counted = live_counts(status, home) if status.is_running else ReleaseCounts()
    in_step = read_counts(home, policy.id) if status.is_running else ReleaseCounts()
    state = ReleaseState(
        policy=policy.id,
        kind=policy.kind,
        is_running=status.is_running,
        arms=_arms(policy, counted, in_step),
        steps=(),
        waits_for=status.waits_for,
        deadline_at=policy.deadline_at,
        rows=status.rows,
        pairs=None,
        guard=None,
        guardrails=(),
        analysis=None,
        ended="" if status.is_running else next(iter(status.lines), ""),
        report=_report(sources, status),
        by=policy.by,
        why=policy.why,
        since_at=policy.at,
    )
    if not status.is_running:
        return state
    guard = _guard(sources, policy, problems)
    return replace(
        state,
        steps=_steps(policy, in_step.arm(CHALLENGER).rows),
        pairs=_pairs(counted.pairs),
        guard=guard,
        guardrails=tuple(Guardrail(TITLES[c.check], c, more_rows(c)) for c in guard.checks) if guard else (),
        analysis=attempt(problems, lambda: _analysis(sources, status, policy)),
    )


def draw_release(state: ReleaseState) -> dict[str, Chart]:
    """Score differences of a shadow's pairs, and the differences of arms that answered."""
    charts = {}
    pairs = state.analysis.pairs if state.analysis else None
    if pairs is not None:
        charts["differences"] = difference_chart(pairs)
    comparison = state.analysis.comparison if state.analysis else None
    known = [each for each in comparison.differences if each.difference is not None] if comparison else []
    if known:
        rows = [
            (f"{each.arm}: {_MEASURES[each.measure]}", [Mark(each.difference, each.low, each.high, "a")])
            for each in known
        ]
        reach = max(abs(end) for each in known for end in (each.low or 0.0, each.high or 0.0)) or 1.0
        charts["arms"] = intervals("Arm minus champion", rows, Axis("difference", -reach, reach), marks=(0.0,))
    return charts


def shares_of(policy: Policy, counts: ReleaseCounts) -> dict[str, float]:
    """The share of the customers that each arm with a weight has had by the counts of its policy; empty without any."""
    customers = {arm.name: counts.arm(arm.name).customers for arm in policy.arms if arm.weight}
    total = sum(customers.values())
    return {name: count / total for name, count in customers.items()} if total else {}


def _arms(policy: Policy, counted: ReleaseCounts, in_step: ReleaseCounts) -> tuple[ArmState, ...]:
    shares, states = shares_of(policy, in_step), []
    for arm in policy.arms:
        own = counted.arm(arm.name)
        states.append(
            ArmState(
                name=arm.name,
                version=arm.version,
                weight=arm.weight,
                share=shares.get(arm.name),
                rows=own.rows,
                errors=own.errors,
                refused=own.refused,
                called_share=own.share(own.called),
                mean_score=own.share(own.score_sum),
                p99_ms=own.quantile_ms(0.99),
            )
        )
    return tuple(states)


def _steps(policy: Policy, rows: int) -> tuple[StepState, ...]:
    states = []
    for place, step in enumerate(policy.steps):
        state = StepState(place + 1, step.weight, step.hold_minutes, step.rows, "to come")
        if place < policy.step:
            state = replace(state, state="done")
        elif place == policy.step:
            until = (policy.step_since or policy.at) + dt.timedelta(minutes=step.hold_minutes)
            state = replace(state, state="now", has_rows=rows, until=until)
        states.append(state)
    return tuple(states)


def _pairs(pairs: PairCounts) -> PairState | None:
    if not pairs.rows and not pairs.dropped:
        return None
    return PairState(
        pairs.rows, pairs.flips, pairs.agreement, pairs.mean_difference, pairs.sd_difference, pairs.dropped
    )


def _guard(sources: Sources, policy: Policy, problems: list[str]) -> GuardrailReport | None:
    try:
        return read_report(sources.settings.home, policy.id)
    except (OSError, ValueError):
        problems.append(f"{counts_folder(sources.settings.home, policy.id)}: the guardrails' report {_UNREADABLE}")
        return None


def _analysis(sources: Sources, status: ReleaseStatus, policy: Policy) -> ReleaseAnalysis | None:
    done = [move.after for move in status.moves if move.status == "done"]
    run = rollout(done, policy.id)
    home, ids = sources.settings.home, tuple(each.id for each in run)
    if not run:
        return None
    counts = {each: read_counts(home, each) for each in ids}

    def question(connection: duckdb.DuckDBPyConnection) -> ReleaseAnalysis | None:
        names = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = 'predictions'"
        ).fetchall()
        # A copy of before there were shadows has no row of a release; the next ingest brings the columns.
        return analyse(connection, run, counts) if ("shadow",) in names else None

    analysis = sources.log.ask(("release", ids), question)
    return analysis if analysis is not None and analysis.arms else None


def _report(sources: Sources, status: ReleaseStatus) -> str:
    """The policy of the last release beside whose counts the loop has put a page, "" if there is none."""
    ids: Sequence[str] = [move.after.id for move in reversed(status.moves) if move.status == "done"]
    let_in = {move.after.id for move in status.moves if any(arm.name != CHAMPION for arm in move.after.arms)}
    folder = sources.settings.home
    return next((each for each in ids if each in let_in and (counts_folder(folder, each) / PAGE).is_file()), "")
