"""Gathers what there is of one release: the policies of the ledger, the ingested log, counts, labels, guardrails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.records import PolicyMove
from churn_assets.promotion.rollout.status import guardrail_lines, minute
from churn_assets.release.analysis import ReleaseAnalysis, analyse, rollout
from churn_assets.release.counts import REPORT, counts_folder, read_counts
from churn_assets.release.guardrails import GuardrailReport, LabelFigures, read_report
from churn_assets.release.labels import label_figures
from churn_assets.release.policy import Policy
from churn_assets.reporting.release.page import render_release
from churn_assets.settings import Settings
from churn_assets.storage.files import write_json, write_text

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = "report.html"  # beside REPORT


@dataclass(frozen=True)
class ReleaseReport:
    """A release at `made_at` (UTC). `policies` are its policies, oldest first; `labels` are the figures of the
    guardrails by arm; `guardrails` is the newest judgement on its newest policy, None before the first; `end` is the
    move that ended it, None while it runs."""

    made_at: datetime
    policies: tuple[Policy, ...]
    analysis: ReleaseAnalysis
    labels: dict[str, LabelFigures]
    guardrails: GuardrailReport | None
    end: PolicyMove | None = None

    @property
    def state(self) -> str:
        """How its guardrails stand, or how it ended, in a line."""
        if self.end is None:
            return f"guardrails: {self.guardrails.message if self.guardrails else 'not judged yet'}"
        outcome = self.end.outcome.replace("_", " ")
        return f"ended on {minute(self.end.intended_at)} by {self.end.by}: {outcome}: {self.end.why}"

    @property
    def figures(self) -> list[str]:
        """The figures of its end, a line for each check (the last ones if a person has ended it); none while
        it runs."""
        if self.end is None:
            return []
        return guardrail_lines(self.end.numbers or (self.guardrails.to_json() if self.guardrails else None))

    @property
    def policy(self) -> Policy:
        """The newest policy."""
        return self.policies[-1]

    def to_json(self) -> dict[str, Any]:
        """As `report.json` has it; without the salt of a policy."""
        return {
            **self.analysis.to_json(),
            "made_at": self.made_at.astimezone(UTC).isoformat(timespec="seconds"),
            "labels": {name: msgspec.to_builtins(figures) for name, figures in self.labels.items()},
            "guardrails": None if self.guardrails is None else self.guardrails.to_json(),
            "end": None if self.end is None else _end_to_json(self.end),
        }


def collect_release(
    settings: Settings,
    labelled: pa.Table | None,
    now: datetime,
    policy_id: str | None = None,
    version: str | None = None,
) -> ReleaseReport | None:
    """The last release, or that of `policy_id` or `version` (see `rollout`); None where there is none.

    `labelled` is the asset `labelled_predictions`, without rows of broken windows. Raises NothingIngested,
    LedgerCorrupt, LedgerUnavailable, WarehouseCorrupt.
    """
    moves = Ledger(settings.ledger_path).policy_moves("done")
    run = rollout([move.after for move in moves], policy_id, version)
    if not run:
        return None
    counts = {policy.id: read_counts(settings.home, policy.id) for policy in run}
    with open_published(settings) as connection:
        analysis = analyse(connection, run, counts, labelled)
        labels = {} if labelled is None else label_figures(connection, run, labelled)
    end = next((move for move in moves if move.before is not None and move.before.id == run[-1].id), None)
    return ReleaseReport(now, tuple(run), analysis, labels, _read_guardrails(settings.home, run[-1].id), end)


def write_release(settings: Settings, report: ReleaseReport) -> tuple[Path, Path]:
    """Write `report.json` and the page into the folder of the release's newest policy."""
    folder = counts_folder(settings.home, report.policy.id)
    folder.mkdir(parents=True, exist_ok=True)
    page = write_text(
        folder / PAGE, render_release(report.policy, report.analysis, report.guardrails, report.state, report.made_at)
    )
    return write_json(folder / REPORT, report.to_json()), page


def _end_to_json(end: PolicyMove) -> dict[str, Any]:
    """Who ended it, when, how and why; its numbers are those of the ledger."""
    numbers = None if end.numbers is None else dict(end.numbers)
    at = end.intended_at.astimezone(UTC).isoformat(timespec="seconds")
    return {"move": end.kind, "outcome": end.outcome, "by": end.by, "why": end.why, "at": at, "numbers": numbers}


def _read_guardrails(home: Path, policy_id: str) -> GuardrailReport | None:
    try:
        return read_report(home, policy_id)
    except (OSError, ValueError):
        return None
