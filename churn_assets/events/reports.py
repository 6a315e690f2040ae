"""Messages of the loop's reports: drift and outliers of windows from their report files, verdicts from the ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from churn_assets.errors import ChurnError, WindowUnreadable
from churn_assets.events.messages import DriftEvent, GateCheck, GateEvent, Message, OutliersEvent, message_of
from churn_assets.events.outbox import Batch
from churn_assets.events.positions import ENDED, NOWHERE, Position, Positions
from churn_assets.monitoring.windows import DRIFT_JSON, read_report
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import Challenger
from churn_assets.settings import KafkaSettings, Settings


@dataclass(frozen=True, kw_only=True)
class _Outliers:
    """The part of a drift report that tells of outliers."""

    method: str
    rows: int
    share: float | None
    reference_share: float | None
    message: str


@dataclass(frozen=True, kw_only=True)
class _WindowReport:
    """The part of a drift report that goes into messages."""

    status: str
    message: str
    fingerprint: str
    window: int
    model_version: str
    data: str
    drifted: tuple[str, ...] = ()
    customers: int
    rows: int
    first_scored_at: str
    last_scored_at: str
    outliers: _Outliers | None = None


class ReportSource:
    """The reports of one home, each relayed once for a model, and each status of a challenger once."""

    def __init__(self, settings: Settings, kafka: KafkaSettings) -> None:
        self._settings, self._kafka = settings, kafka
        self._read_at: dict[Path, int] = {}  # when a file that was read had been changed, in ns

    def restart(self) -> None:
        """Forget what was read and not committed."""
        self._read_at.clear()

    def collect(self, positions: Positions, batch: Batch) -> None:
        """Add to a batch what the positions do not have. What cannot be read is left for the next time: the loop
        itself reports it."""
        for path in sorted(self._settings.monitoring_dir.glob(f"*/*/{DRIFT_JSON}")):
            with contextlib.suppress(WindowUnreadable, OSError):
                changed_at = path.stat().st_mtime_ns
                if self._read_at.get(path) != changed_at:
                    self._collect_window(path, positions, batch)
                    self._read_at[path] = changed_at
        with contextlib.suppress(ChurnError):
            for challenger in Ledger.of(self._settings).challengers():
                self._collect_gate(challenger, positions, batch)

    def _collect_window(self, path: Path, positions: Positions, batch: Batch) -> None:
        report = read_report(path, _WindowReport)
        if report is None:
            return
        key = f"window/{report.fingerprint[:12]}/{report.window}/{report.model_version}"
        if not positions.get(key, NOWHERE).ended:
            batch.messages.extend(self._window_messages(report))
            batch.changes[key] = ENDED

    def _window_messages(self, report: _WindowReport) -> Iterator[Message]:
        key = report.fingerprint[:12]
        own_id = f"{key}:{report.window}:{report.model_version}"
        names = (
            *("fingerprint", "window", "model_version", "customers", "rows"),
            *("first_scored_at", "last_scored_at"),
        )
        shared = {name: getattr(report, name) for name in names}
        if report.status == "drift":
            drift = DriftEvent(
                event_id=f"drift:{own_id}", **shared, message=report.message, drifted=report.drifted, data=report.data
            )
            yield message_of(self._kafka.drift, key, drift)
        outliers = report.outliers
        if outliers is not None and outliers.share is not None:
            event = OutliersEvent(
                event_id=f"outliers:{own_id}",
                **shared,
                message=outliers.message,
                method=outliers.method,
                sampled=outliers.rows,
                share=outliers.share,
                reference_share=outliers.reference_share,
            )
            yield message_of(self._kafka.outliers, key, event)

    def _collect_gate(self, challenger: Challenger, positions: Positions, batch: Batch) -> None:
        key = f"gate/{challenger.number}"
        if positions.get(key, NOWHERE).state == challenger.status:
            return
        batch.changes[key] = Position(state=challenger.status)
        if challenger.status == "waiting_gate":
            return
        verdict = challenger.verdict
        event = GateEvent(
            event_id=f"gate:{challenger.number}:{challenger.status}",
            challenger=challenger.version,
            champion=verdict.champion if verdict else "",
            round=challenger.number,
            status=challenger.status,
            passed=verdict.passed if verdict else None,
            reason=challenger.message,
            by=str(challenger.approved_by or ""),
            changed_at=challenger.changed_at.isoformat(),
            checks=tuple(
                GateCheck(check.check, check.value, check.limit, check.passed, check.message)
                for check in (verdict.checks if verdict else ())
            ),
        )
        batch.messages.append(message_of(self._kafka.gate, challenger.version, event))
