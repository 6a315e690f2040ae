"""Alerts: what is wrong now, who looks after it, and what was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.alerting.alerts import Entry
from churn_assets.dashboard.sources import Sources, attempt

MOST_PAST = 100  # the newest


@dataclass(frozen=True)
class Alerts:
    """The page: open alerts and past ones, the newest first. `destinations` says where alerts go; `silent` are the
    numbers of open ones of which nobody is reminded now."""

    made_at: dt.datetime
    open: tuple[Entry, ...]
    past: tuple[Entry, ...]
    silent: tuple[int, ...]
    destinations: str
    problems: tuple[str, ...]


def read_alerts(sources: Sources, parameters: Mapping[str, str]) -> Alerts:
    """Every alert of this home."""
    problems, now = list[str](), sources.clock()
    entries = attempt(problems, sources.alerts) or []
    is_open = tuple(entry for entry in entries if entry.closed_at is None)
    return Alerts(
        made_at=now,
        open=is_open,
        past=tuple(entry for entry in entries if entry.closed_at is not None)[:MOST_PAST],
        silent=tuple(entry.number for entry in is_open if entry.is_silent(now)),
        destinations=sources.alert_settings().summary,
        problems=tuple(problems),
    )
