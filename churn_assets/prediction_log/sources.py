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
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.model import MAX_ID, is_id
from churn_assets.errors import NothingIngested, SourceRefused
from churn_assets.evaluation.metrics import Floats, Labels, roc_auc
from churn_assets.prediction_log.records import ANONYMOUS, IMPORT, SourceDecision, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

QUARANTINE = "quarantine"  # who decides that a source is not plausible

MIN_CUSTOMERS, MIN_OF_A_CLASS = 50, 10  # with fewer nothing is concluded
MAX_ODDS = 4.0  # times the odds of churn that the scores give, or its inverse
SIGMAS = 3.3  # one-sided 99.95 %
EVER, FOR_EVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 1, 1, tzinfo=dt.UTC)

_JUDGED = """
SELECT f.source, bool_or(f.churned) AS churned, arg_max(p.score, p.seq) AS score
FROM outcomes f JOIN answers p ON p.prediction_id = f.prediction_id
WHERE list_contains($names, f.source) AND p.customer_id IS NOT NULL GROUP BY f.source, p.customer_id
UNION ALL
SELECT f.source, bool_or(f.churned), arg_max(p.score, p.seq)
FROM outcomes f JOIN answers p ON p.customer_id = f.customer_id AND p.scored_at <= f.received_at
WHERE list_contains($names, f.source) AND f.prediction_id IS NULL GROUP BY f.source, p.customer_id
"""
_SCORED = "SELECT count(*), avg(score) FROM (SELECT arg_max(score, seq) AS score FROM answers GROUP BY customer_id)"
_NEW = """
SELECT DISTINCT source FROM feedback f
WHERE seq > $seq AND source IS NOT NULL AND (source = $anonymous OR request_id <> $import) AND NOT EXISTS (
  SELECT 1 FROM source_decisions d WHERE d.source = f.source AND f.received_at < d.until_at) ORDER BY 1
"""
_QUARANTINED = """
SELECT source, arg_max(why, seq) FROM decisions GROUP BY source HAVING arg_max(who, seq) = ? ORDER BY source
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


def judge_sources(connection: duckdb.DuckDBPyConnection, seq: int, now: dt.datetime) -> list[SourceDecision]:
    """Decisions against sources that have reported after line `seq`, came over the network, are not plausible and about
    which nobody has decided."""
    values = {"seq": seq, "anonymous": ANONYMOUS, "import": IMPORT}
    names = [name for (name,) in connection.execute(_NEW, values).fetchall()]
    if not names:
        return []
    [(scored, scored_mean)] = connection.execute(_SCORED).fetchall()
    rows = connection.execute(_JUDGED, {"names": names}).fetchnumpy()
    decisions = []
    for name in names:
        own = rows["source"] == name
        reason = implausible_reports(rows["churned"][own], rows["score"][own], scored, scored_mean or 0.0)
        if reason is not None:
            decisions.append(decide(name, False, (EVER, FOR_EVER), QUARANTINE, reason, now))
    return decisions


def quarantined_sources(settings: Settings) -> dict[str, str]:
    """Sources that the ingest stopped counting and about which no person has decided since, with the reason."""
    with contextlib.suppress(NothingIngested), open_published(settings) as connection:
        return dict(connection.execute(_QUARANTINED, [QUARANTINE]).fetchall())
    return {}


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


def record(settings: Settings, decision: SourceDecision) -> int:
    """Append a person's decision to the log; it counts from the next ingest. The number of reports it is about, of
    those ingested. Raises SourceRefused for a source that has reported nothing, NothingIngested, LogUnavailable."""
    with open_published(settings) as connection:
        reports = connection.execute(
            "SELECT count(*) FROM feedback WHERE source = ? AND received_at BETWEEN ?::TIMESTAMP AND ?::TIMESTAMP",
            [decision.source, decision.since_at[:19], decision.until_at[:19]],
        ).fetchall()[0][0]
        known = [name for (name,) in connection.execute("SELECT DISTINCT source FROM feedback ORDER BY 1").fetchall()]
    if decision.source not in known:
        names = ", ".join(name for name in known if name is not None) or "none"
        raise SourceRefused(
            f"nothing ingested was reported by {decision.source!r}, expected one of: {names}; correct it, or run "
            "`churn log ingest` first"
        )
    segment = Segment(settings.predlog_dir)
    segment.append(encode_line(decision))
    segment.hand_over()
    return int(reports)


def _at_odds(share: float, times: float) -> float:
    """The share at `times` the odds of another one, both in 0 to 1."""
    return times * share / (1 - share + times * share)


def _limit(count: int, share: float, sigmas: float) -> float:
    """`sigmas` standard deviations beyond the expected number of a binomial distribution."""
    return count * share + sigmas * sqrt(count * share * (1 - share))
