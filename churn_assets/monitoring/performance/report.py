"""The performance report: labels, metrics by period and version, the fall, estimates and the service, as JSON.

Only what the log and the labels say goes in. What is missing is said in `words`; a part that has nothing
to say never hides another.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.monitoring.performance.estimated import BLIND, estimate, read_history, remember, track_record
from churn_assets.monitoring.performance.labels import count_labels, in_words, no_labels
from churn_assets.monitoring.performance.outcomes import BROKEN, Outcomes, Period, months, outside
from churn_assets.monitoring.performance.realized import compare, measure
from churn_assets.monitoring.performance.service import service_report
from churn_assets.storage.files import read_json_object, write_text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEASURED = "performance.json"  # beside a window's window.json
SHOWN = 60  # newest periods in the report; older ones keep their file
VERSIONS = 20


@dataclass(frozen=True)
class Model:
    """The champion as far as it is compared with: its card's metrics, when it was trained, and on how many rows."""

    version: str
    fingerprint: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    trained_at: dt.datetime | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Review:
    """Everything the report is made of.

    `connection` is None if nothing was ingested, `champion` if there is none. `windows` are the closed ones
    of the champion's contract, oldest first; `folder` is where its reports are kept.
    """

    connection: duckdb.DuckDBPyConnection | None
    contract: Contract
    champion: Model | None
    labelled: pa.Table
    windows: Sequence[Period]
    folder: Path
    now: dt.datetime

    @property
    def fingerprint(self) -> str:
        """The contract whose rows are looked at: the champion's."""
        return self.champion.fingerprint if self.champion else self.contract.fingerprint

    @property
    def capacity_share(self) -> float | None:
        """The share of customers that can be contacted, as the champion's threshold took it; None if unknown."""
        capacity, rows = self.contract.value.capacity, self.champion.rows if self.champion else None
        return None if capacity is None or not rows else min(1.0, capacity / rows)


def performance_report(of: Review) -> dict[str, Any]:
    """All of it as JSON. Estimates of closed periods are remembered, windows keep their performance.json."""
    floor = of.contract.monitoring.label_floor
    outcomes = Outcomes.of(of.labelled, of.fingerprint)
    periods = _periods(of)
    measured = {p.name: _measured(of, outcomes.within(p), p) for p in periods}
    estimated, record = _estimates(of, periods, measured)
    sound = outcomes.take(outside(outcomes.seq, _broken(of)))
    ours = sound.of_version(of.champion.version) if of.champion else sound.take(np.arange(0))
    fall = _fall(of, ours)
    versions = list(dict.fromkeys(outcomes.version[::-1].tolist()))[:VERSIONS]
    found = {
        "fingerprint": of.contract.fingerprint,
        "champion": of.champion.version if of.champion else None,
        "champion_fingerprint": of.fingerprint,
        "made_at": of.now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "label_floor": floor,
        "labels": {
            "final": len(sound.last_of_each()),
            "final_of_champion": len(ours),
            "new": _new(of, sound),
            "of_broken_data": len(outcomes) - len(sound),
            "counts": count_labels(of.connection, of.contract, of.now) if of.connection is not None else no_labels(),
        },
        "periods": [
            {"period": p.name, "closed": p.closed, "inputs": _inputs(p), "measured": measured[p.name]}
            | {"estimated": estimated[p.name]}
            for p in periods
        ],
        "versions": [
            {"model_version": v, **measure(outcomes.of_version(v), floor, of.capacity_share)} for v in versions
        ],
        "fall": fall,
        "pr_auc_dropped": fall["dropped"],
        "estimates": {"blind_to": BLIND, "record": record},
        "service": service_report(of.connection, periods) if of.connection is not None else None,
    }
    return {**found, "words": _words(of, found)}


def _periods(of: Review) -> list[Period]:
    """Closed windows and what follows the last of them; months of scoring while there is no window."""
    if of.connection is None:
        return []
    asked = "FROM predictions WHERE fingerprint = $fingerprint"
    values = {"fingerprint": of.fingerprint}
    windows = list(of.windows)[-SHOWN:]
    if not windows:
        names = of.connection.execute(f"SELECT DISTINCT strftime(scored_at, '%Y-%m') {asked}", values).fetchall()
        return months([name for (name,) in names], of.now.astimezone(dt.UTC).strftime("%Y-%m"))[-SHOWN:]
    last = windows[-1].to_seq or 0
    (newest,) = of.connection.execute(f"SELECT coalesce(max(seq), 0) {asked}", values).fetchall()[0]
    return [*windows, Period("open", last + 1, newest, closed=False)] if newest > last else windows


def _measured(of: Review, outcomes: Outcomes, period: Period) -> dict[str, Any]:
    """Metrics of a period; those of a window are kept, and used again as long as its labels are the same."""
    floor, share = of.contract.monitoring.label_floor, of.capacity_share
    if period.folder is None:
        return measure(outcomes, floor, share)
    parts = (outcomes.score, outcomes.churned, outcomes.contacted)
    labels = hashlib.sha256(b"".join(part.tobytes() for part in parts) + f"{floor} {share}".encode()).hexdigest()
    path = period.folder / MEASURED
    kept = _read(path)
    if kept.get("labels_sha256") == labels:
        return dict(kept["measured"])
    found = measure(outcomes, floor, share)
    about = {"window": int(period.name), "fingerprint": of.fingerprint}
    told = {**about, "from_seq": period.from_seq, "to_seq": period.to_seq, "status": found["status"]}
    text = json.dumps({**told, "measured": found, "labels_sha256": labels}, indent=1, sort_keys=True)
    write_text(path, text + "\n")
    return found


def _estimates(
    of: Review, periods: Sequence[Period], measured: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(estimate by period, track record): of a closed period the one that was made first, for ever."""
    history, wrong = read_history(of.folder)
    known = {row["period"] for row in history}
    floor = of.contract.monitoring.floor
    made = {p.name: estimate(_scores(of, p), floor) for p in periods if p.name not in known}
    closed = {
        p.name: {**made[p.name], "labels_then": measured[p.name]["rows"]}
        for p in periods
        if p.closed and p.name in made
    }
    names = {p.name for p in periods}
    history = [row for row in remember(of.folder, closed, of.now) if row["period"] in names]
    record = track_record(history, measured)
    shown = made | {row["period"]: {"status": "estimated", "blind_to": BLIND, **row} for row in history}
    return shown, {**record, "words": wrong or record["words"]}


def _scores(of: Review, period: Period) -> Any:
    if of.connection is None:
        return np.empty(0)
    where, values = period.where()
    rows = of.connection.execute(
        f"SELECT arg_max(score, seq) AS score FROM predictions WHERE fingerprint = $fingerprint AND {where} "
        "GROUP BY coalesce(customer_id, ' ' || prediction_id || ' ') ORDER BY score DESC",
        {"fingerprint": of.fingerprint, **values},
    ).fetchnumpy()
    return np.asarray(rows["score"], dtype=np.float64)


def _fall(of: Review, ours: Outcomes) -> dict[str, Any]:
    """The champion's newest labelled customers, as many as a window has, against its card."""
    limits = of.contract.monitoring
    if of.champion is None:
        return {"status": "unknown", "dropped": False, "words": "no champion yet: there is no card to compare with"}
    if "test_pr_auc_low" not in of.champion.metrics:
        words = "the champion's card has no PR-AUC with an interval: there is nothing to compare with"
        return {"status": "unknown", "dropped": False, "words": words}
    newest = ours.newest(max(limits.window, limits.label_floor))
    return compare(newest, of.champion.metrics, limits.pr_auc_drop, limits.label_floor)


def _new(of: Review, outcomes: Outcomes) -> int:
    """Customers whose label was settled after the champion was trained; all of them before there is one."""
    if of.champion is None or of.champion.trained_at is None:
        return len(outcomes.last_of_each())
    since = np.datetime64(of.champion.trained_at.astimezone(dt.UTC).replace(tzinfo=None), "us")
    return len(outcomes.take(np.asarray(outcomes.settled > since, dtype=np.bool_)).last_of_each())


def _broken(of: Review) -> list[tuple[int, int]]:
    """Where the log's data was broken: labels of these rows are counted, and neither learnt from nor judged by."""
    return [(p.from_seq or 0, p.to_seq or 0) for p in of.windows if _inputs(p) == BROKEN]


def _inputs(period: Period) -> str | None:
    """What the quality report of a window says of its inputs; None if there is none."""
    found = _read(period.folder / "quality.json").get("status") if period.folder else None
    return None if found is None else str(found)


def _read(path: Path) -> dict[str, Any]:
    """A kept report; empty if it is not there or not whole: it is then made again."""
    try:
        return read_json_object(path)
    except (OSError, ValueError):
        return {}


def _words(of: Review, found: Mapping[str, Any]) -> list[str]:
    said = [in_words(found["labels"]["counts"])]
    if of.connection is None:
        return said
    said.append(str(found["fall"]["words"]))
    latest = next((row for row in reversed(found["periods"]) if row["estimated"]["status"] == "estimated"), None)
    if latest is not None:
        figure = latest["estimated"]
        ends = f"{figure['pr_auc_low']:.3f} to {figure['pr_auc_high']:.3f}"
        said.append(f"estimated without labels for {latest['period']}: PR-AUC {figure['pr_auc']:.3f} ({ends}). {BLIND}")
    said.append(str(found["estimates"]["record"]["words"]))
    broken = [row["period"] for row in found["periods"] if row["inputs"] == "broken"]
    if broken:
        said.append(f"inputs were broken in {', '.join(broken)}: what is estimated there says nothing")
    if left_out := found["labels"]["of_broken_data"]:
        said.append(f"{left_out:,} final labels are of broken data: no model learns from them, no fall is seen in them")
    return said
