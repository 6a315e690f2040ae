"""Who reported outcomes, whether the reports are plausible, and the decision to count them.

A source is an API key, `anonymous` where the service asks for none, or the name given to an import. Whoever reports
outcomes decides what the next model learns. So each ingest judges the sources that reach the service over the network
by what the log has, the scores given before the outcomes, and stops counting a source that contradicts them until a
person accepts it. An import is made by somebody who can write the home, and is not judged.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.values import MAX_ID, is_id
from churn_assets.errors import NothingIngested, SourceRefused
from churn_assets.evaluation.metrics import Floats, Labels, roc_auc
from churn_assets.prediction_log.records import ANONYMOUS, IMPORT, SourceDecision, encode_line, parse_instant
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.connection import has_table, open_published
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

QUARANTINE = "quarantine"  # who decides that a source is not plausible

MIN_CUSTOMERS, MIN_OF_A_CLASS = 50, 10  # with fewer nothing is concluded
MAX_ODDS = 4.0  # times the odds of churn that the scores give, or its inverse
SIGMAS = 3.3  # one-sided 99.95 %
EVER, FOR_EVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 1, 1, tzinfo=dt.UTC)

_REPORTED = """
WITH own AS (SELECT * FROM reported WHERE accepted IS NOT FALSE AND list_contains($names, source)),
scored AS (
  SELECT f.source, f.churned, p.customer_id, p.score, p.seq FROM own f
  JOIN answers p ON p.prediction_id = f.prediction_id
  UNION ALL
  SELECT f.source, f.churned, p.customer_id, p.score, p.seq FROM own f
  JOIN answers p ON p.customer_id = f.customer_id AND p.scored_at <= f.received_at + INTERVAL 1 DAY
  WHERE f.prediction_id IS NULL
)
SELECT source, bool_or(churned) AS churned, arg_max(score, seq) AS score
FROM scored WHERE customer_id IS NOT NULL GROUP BY source, customer_id
"""
_SCORED = "SELECT count(*), avg(score) FROM (SELECT arg_max(score, seq) AS score FROM answers GROUP BY customer_id)"
_COVERS = "d.source = f.source AND f.received_at >= d.since_at AND f.received_at < d.until_at"
_NEW = f"""
SELECT DISTINCT source FROM feedback f
WHERE seq > (SELECT seq FROM judged) AND (source = $anonymous OR request_id <> $import)
AND source IS NOT NULL AND NOT EXISTS (SELECT 1 FROM source_decisions d WHERE {_COVERS}) ORDER BY 1
"""
_WAITING = """
SELECT source, count(*) FROM reported WHERE accepted IS NULL AND NOT within_share
GROUP BY source HAVING count(*) >= ? ORDER BY source
"""
_LAST = "(SELECT coalesce(max(last_seq), 0) FROM segments)"
_JUDGED = f"UPDATE judged SET seq = {_LAST} WHERE seq < {_LAST}"
_QUARANTINED = f"""
WITH decided AS (
  SELECT f.source, arg_max(d.who, d.seq) AS who, arg_max(d.why, d.seq) AS why
  FROM feedback f JOIN source_decisions d ON {_COVERS} GROUP BY f.source, f.feedback_id
)
SELECT source, any_value(why) FROM decided WHERE who = ? GROUP BY source ORDER BY source
"""


def implausible_reports(churned: Labels, score: Floats, scored: int, scored_mean: float) -> str | None:
    """Why a source's reports contradict the scores of its customers (both of one length), None if they may be true.

    `scored` customers have a score, `scored_mean` on average, whoever reports on them. Churn within `MAX_ODDS` of the
    scores, and any ranking that is not the reverse of theirs, is plausible: drift looks like that. Churners are
    compared with all customers who were scored, because a source may report nobody else; too few churners are too few
    of those who are reported.
    """
    customers, lost = len(churned), int(np.sum(churned))
    if customers < MIN_CUSTOMERS:
        return None
    if lost > _limit(scored, _at_odds(scored_mean, MAX_ODDS), SIGMAS):
        return f"{lost:,} of {scored:,} scored customers are reported as churned, the scores expect {scored_mean:.1%}"
    mean = float(np.mean(score))
    if lost < _limit(customers, _at_odds(mean, 1 / MAX_ODDS), -SIGMAS):
        return f"{lost:,} of {customers:,} reported customers churned, the scores expect {mean:.1%}"
    if min(lost, customers - lost) >= MIN_OF_A_CLASS:
        area = roc_auc(churned, score)
        deviation = sqrt((customers + 1) / (12 * lost * (customers - lost)))  # if scores say nothing on outcomes
        if area < 0.5 - SIGMAS * deviation:
            return f"the outcomes are the reverse of the scores (ROC-AUC {area:.2f})"
    return None


def judge_sources(connection: duckdb.DuckDBPyConnection, now: dt.datetime) -> list[SourceDecision]:
    """Decisions against sources that came over the network, are not plausible, and have reported something new about
    which nobody has decided. What is new is known until `mark_judged`."""
    values = {"anonymous": ANONYMOUS, "import": IMPORT}
    names = [name for (name,) in connection.execute(_NEW, values).fetchall()]
    if not names:
        return []
    [(scored, scored_mean)] = connection.execute(_SCORED).fetchall()
    rows = connection.execute(_REPORTED, {"names": names}).fetchnumpy()
    decisions = []
    for name in names:
        own = rows["source"] == name
        reason = implausible_reports(rows["churned"][own], rows["score"][own], scored, scored_mean or 0.0)
        if reason is not None:
            decisions.append(decide(name, False, (EVER, FOR_EVER), QUARANTINE, reason, now))
    return decisions


def mark_judged(connection: duckdb.DuckDBPyConnection) -> None:
    """No feedback of the tables is new any more: once the decisions on it are in the log."""
    connection.execute(_JUDGED)


def quarantined_sources(settings: Settings) -> dict[str, str]:
    """Sources of which the ingest does not count something about which no person has decided, with the reason."""
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        if has_table(connection, "source_decisions"):
            return dict(connection.execute(_QUARANTINED, [QUARANTINE]).fetchall())
    return {}


def waiting_sources(settings: Settings) -> dict[str, int]:
    """Sources over the network with enough customers to conclude something that nobody has decided about, and how many
    of their reports do not count because the source may label a share of the customers only."""
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        if has_table(connection, "source_decisions"):
            return dict(connection.execute(_WAITING, [MIN_CUSTOMERS]).fetchall())
    return {}


def parse_period(since: str | None, until: str | None, end: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """A period from days or instants as text; from ever, and until `end`, where they are None. Raises SourceRefused."""
    try:
        return parse_instant(since) if since else EVER, parse_instant(until) if until else end
    except (ValueError, OverflowError):
        given = " to ".join(text[:40] for text in (since, until) if text)
        raise SourceRefused(f"the period is {given!r}, expected days such as 2026-01-20; correct them") from None


def decide(
    source: str, accepted: bool, period: tuple[dt.datetime, dt.datetime], who: str, why: str, now: dt.datetime
) -> SourceDecision:
    """A decision for the log on what was received in a period. Raises SourceRefused for texts that are empty, too long
    or not printable, and for an empty period."""
    for name, text in (("source", source), ("--by", who), ("--why", why)):
        if not is_id(text):
            raise SourceRefused(f"{name} is {text[:40]!r}, expected 1 to {MAX_ID} printable characters; correct it")
    since, until = period
    if since >= until:
        raise SourceRefused(f"the period is {since:%F} to {until:%F}, expected --since before --until; correct them")
    instants = since.isoformat(), until.isoformat(), who, why, now.isoformat()
    return SourceDecision(os.urandom(12).hex(), source, accepted, *instants)


def record(settings: Settings, decision: SourceDecision, announce: Callable[[], None] = lambda: None) -> int:
    """Append a person's decision to the log; it counts from the next ingest. The number of reports it is about, of
    those ingested. `announce` is called when nothing but the disk can refuse it any more. Raises SourceRefused for a
    source that has reported nothing, NothingIngested, LogUnavailable."""
    period = [parse_instant(text).replace(tzinfo=None) for text in (decision.since_at, decision.until_at)]
    with open_published(settings) as connection:
        reports = connection.execute(
            "SELECT count(*) FROM feedback WHERE source = ? AND received_at >= ? AND received_at < ?",
            [decision.source, *period],
        ).fetchall()[0][0]
        known = [name for (name,) in connection.execute("SELECT DISTINCT source FROM feedback ORDER BY 1").fetchall()]
    if decision.source not in known:
        names = ", ".join(name for name in known if name is not None) or "none"
        raise SourceRefused(
            f"nothing ingested was reported by {decision.source!r}, expected one of: {names}; correct it, or run "
            "`churn log ingest` first"
        )
    announce()
    segment = Segment(settings.segments_dir, instance=settings.instance)
    segment.append(encode_line(decision))
    segment.hand_over()
    return int(reports)


def _at_odds(share: float, times: float) -> float:
    """The share at `times` the odds of another one, both in 0 to 1."""
    return times * share / (1 - share + times * share)


def _limit(count: int, share: float, sigmas: float) -> float:
    """`sigmas` standard deviations beyond the expected number of a binomial distribution."""
    return count * share + sigmas * sqrt(count * share * (1 - share))
