"""What the relay says of itself in `relay.json`, for `churn status`, the alerts and the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from churn_assets.settings import Settings
from churn_assets.storage.files import read_json_object, write_json_unsynced

RELAY = "relay.json"
WRITE_S = 5.0  # between two reports
SILENCE_S = 60.0  # without a report: it does not run
BEHIND_S = 300.0  # of the oldest row that waits: then it is late, as for the alert ChurnRelayLagging


@dataclass(frozen=True, kw_only=True)
class RelayStatus:
    """The relay of a home as it was `at` an instant; it runs `since_at`.

    `problem` says why nothing can be sent now, "" if all is well. `lag_bytes` of the log wait, about `lag_rows` rows,
    the oldest for `lag_s` seconds. Counted since its start: messages `produced` by topic, `transactions` committed and
    `failed`, `connections` to the broker, rows `skipped` because no message can be made of them, and `lost_segments`
    that were deleted before they were relayed. `exposes_aborted`: the broker shows what was never committed.
    """

    at: datetime
    since_at: datetime
    problem: str = ""
    lag_bytes: int = 0
    lag_rows: int = 0
    lag_s: float = 0.0
    produced: dict[str, int] = field(default_factory=dict)
    transactions: int = 0
    failed: int = 0
    connections: int = 0
    skipped: int = 0
    lost_segments: int = 0
    exposes_aborted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values; instants as ISO 8601."""
        stored: dict[str, Any] = msgspec.to_builtins(self)
        return stored


def write_relay_status(settings: Settings, status: RelayStatus) -> None:
    """Replace the report. Raises OSError."""
    write_json_unsynced(settings.home / RELAY, status.to_json())


def read_relay_status(settings: Settings) -> RelayStatus | None:
    """The last report, None if no relay has ever run in this home, or the report was removed or is damaged."""
    try:
        return msgspec.convert(read_json_object(settings.home / RELAY), RelayStatus)
    except (OSError, ValueError):
        return None


def delay_of(status: RelayStatus, now: datetime) -> str:
    """Why the relay is late, in a clause; "" if it is not."""
    silent_s = (now - status.at.astimezone(UTC)).total_seconds()
    if silent_s > SILENCE_S:
        return f"the relay has not reported since {status.at:%Y-%m-%d %H:%M} UTC"
    if status.lag_s > BEHIND_S:
        rows = f"about {status.lag_rows:,} predictions wait, the oldest for {status.lag_s:,.0f} s"
        return f"{rows}; {status.problem}" if status.problem else rows
    return ""


def describe_relay(status: RelayStatus, now: datetime) -> str:
    """The relay in one line, for a terminal."""
    if late := delay_of(status, now):
        return f"events: {late}"
    if status.problem:
        return f"events: nothing is sent: {status.problem}"
    sent = sum(status.produced.values())
    return f"events: {sent:,} messages sent since {status.since_at:%Y-%m-%d %H:%M} UTC, {status.lag_rows:,} rows wait"
