"""What a home holds and how it came there, for `churn status`, `churn history` and anything else that reads it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from churn_assets.errors import AssetStale
from churn_assets.mlflow_registry.registry import peek_alias
from churn_assets.promotion.holdout import renewals
from churn_assets.promotion.ledger import IN_FLIGHT, Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer, read_champion, read_refusal
from churn_assets.promotion.records import ATTEMPTS, Challenger, DecisionRecord, Gate, Request
from churn_assets.promotion.registration import Registration
from churn_assets.promotion.rollout.policies import Policies
from churn_assets.promotion.rollout.status import (
    ReleaseStatus,
    describe_move,
    describe_policy,
    read_release_status,
    versions_of,
)
from churn_assets.release.policy import ANSWERING, Policy
from churn_assets.scoring.bundle import read_card, read_ladder, read_provenance
from churn_assets.scoring.card import ModelCard, Provenance
from churn_assets.settings import Settings
from churn_assets.storage.files import read_file, read_json_object

if TYPE_CHECKING:
    from churn_assets.data.validation.report import ValidationReport


T = TypeVar("T")

# Of one model, made together.
LISTS = ("risk_list.csv", "call_list.csv", "call_list.notes.txt", "call_list.xlsx", "segments.csv")
SCORE_AGAIN = "churn run --select risk_list"
_SCORED, _VERSIONED = LISTS[0], "feature_importance.json"  # files that name the model that they are of


@dataclass(frozen=True)
class LedgerStatus:
    """Challengers and requests that wait, and the newest decision."""

    challengers: tuple[Challenger, ...] = ()
    requests: tuple[Request, ...] = ()
    decision: DecisionRecord | None = None
    release: ReleaseStatus | None = None

    @property
    def lines(self) -> list[str]:
        """One line each, with what to do where a person must act."""
        record = self.decision
        lines = [*self.release.lines] if self.release else []
        policy = self.release.policy if self.release else None
        lines += [_describe_challenger(challenger, policy) for challenger in self.challengers]
        broken = record is not None and record.decision.inputs.broken is not None
        for request in self.requests:
            waits = "; it waits until the data is complete" if broken and request.status == "open" else ""
            attempt = f"attempt {request.attempt} of {ATTEMPTS}"
            lines.append(f"retraining {request.key} is {request.status}, {attempt}{waits}")
        if record is not None:
            kind, message = record.decision.kind.replace("_", " "), record.decision.message
            lines.append(f"last decision, {record.decided_at:%Y-%m-%d %H:%M} UTC: {kind}: {message}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Flat enough for scripts."""
        decision = self.decision.to_json() if self.decision else None
        if decision is not None:
            names = {"at": "decided_at", **{name: name for name in ("kind", "message", "trigger", "request")}}
            decision = {name: decision[stored] for name, stored in names.items()}
        challengers = [{"version": c.version, "status": c.status, "message": c.message} for c in self.challengers]
        requests = [{"key": r.key, "status": r.status, "attempt": r.attempt} for r in self.requests]
        release = self.release.to_json() if self.release else {}
        shown = {name: release.get(name) for name in ("policy", "running", "waits_for", "guardrails", "problem")}
        return {"challengers": challengers, "requests": requests, "last_decision": decision, **shown}


@dataclass(frozen=True)
class Status:
    """The champion of a home with its card, its provenance and where its files are; all None before the first model."""

    champion: Champion | None
    card: ModelCard | None
    provenance: Provenance | None
    paths: dict[str, str]
    ledger: LedgerStatus = field(default_factory=LedgerStatus)
    refusal: str = ""  # of `read_refusal`
    left_out: tuple[str, ...] = ()  # sentences about columns that the champion does not read
    notes: tuple[str, ...] = ()  # which files are not the champion's, and how to make them

    def to_json(self) -> dict[str, Any]:
        """Flat enough for scripts: version, contract, model, metrics, thresholds, source, paths."""
        status: dict[str, Any] = {"version": None, "contract": None, "metrics": {}, "paths": self.paths}
        status |= {"release": self.ledger.to_json(), "refusal": self.refusal or None}
        status |= {"left_out": list(self.left_out), "notes": list(self.notes)}
        if self.champion is None or self.card is None or self.provenance is None:
            return status
        for name in ("version", "registered_version", "reason", "fingerprint"):
            status[name] = getattr(self.champion, name)
        for name in ("contract", "metrics", "source", "as_of"):
            status[name] = getattr(self.card, name)
        return {
            **status,
            "since_at": self.champion.since_at.isoformat(),
            "model": self.card.chosen,
            "thresholds": asdict(self.card.thresholds),
            "no_signal": self.card.no_signal,
            "generated": bool(self.provenance.generated),
            "trained_at": self.provenance.made_at or None,
        }


@dataclass(frozen=True)
class Event:
    """One change to a model: `what` in a word or two, by whom, and why; `numbers` are what a release was judged by.
    `before` and `after` say what was so and what is, "" where the ledger does not know."""

    at: datetime
    what: str
    version: str
    by: str
    why: str
    numbers: Mapping[str, Any] | None = None
    before: str = ""
    after: str = ""

    def to_json(self) -> dict[str, Any]:
        """One event for scripts."""
        return {**asdict(self), "at": self.at.isoformat()}


def read_status(settings: Settings) -> Status:
    """The state of this home. Raises PointerCorrupt, BundleCorrupt or LedgerCorrupt for files that cannot be read.

    Report, card and call list are the champion's or not among the paths; `notes` say so.
    """
    champion = read_champion(settings.home)
    paths = {
        "home": settings.home,
        "profile": settings.reports_dir / "data_profile.html",
        "rejected": settings.assets_dir / "rejected_customers.parquet",
        "mlflow": settings.mlflow_dir,
    }
    ledger, refusal = read_ledger_status(settings), read_refusal(settings.home)
    if champion is None:
        return Status(None, None, None, _existing(paths), ledger, refusal)
    bundle = champion.path(settings.home)
    paths["bundle"] = bundle
    own, notes = _champion_files(settings, champion.version)
    notes += _alias_note(settings, champion)
    for challenger in ledger.challengers:
        report = report_folder(settings, challenger.version) / "model_report.html"
        notes += [f"report of challenger {challenger.version}: {report}"] if report.is_file() else []
    read, audited = (read_card(bundle), read_provenance(bundle)), read_ladder(bundle, champion.version)
    left_out = tuple(audited.left_out_sentences or ()) if audited else ()
    return Status(champion, *read, _existing({**paths, **own}), ledger, refusal, left_out, tuple(notes))


def _alias_note(settings: Settings, champion: Champion) -> list[str]:
    named, expected = peek_alias(settings.mlflow_uri, "champion"), champion.registered_version
    if expected is None or named in (None, expected):
        return []
    return [
        f"the alias champion in MLflow names version {named}, expected {expected}, champion {champion.version}: a "
        "rollback, or somebody has moved it. It changes nothing; the daemon, or the next monitor, training or gate, "
        "puts it back"
    ]


def _champion_files(settings: Settings, version: str) -> tuple[dict[str, Path], list[str]]:
    """Paths of the champion's report and call list, and a note for each that is of another model."""
    notes = []
    reported, listed = report_version(settings), list_version(settings)
    own = settings.reports_dir if reported == version else report_folder(settings, version)
    paths = {"report": own / "model_report.html", "card": own / "model_card.md"}
    if reported not in (None, version) and not paths["report"].is_file():
        notes.append(f"the report in {settings.reports_dir} is of model {reported}; champion {version} has none")
    if listed not in (None, version):
        notes.append(
            f"the call list in {settings.reports_dir} is of model {listed}, not of champion {version}; "
            f"score the customers with it: {SCORE_AGAIN}"
        )
    elif (settings.reports_dir / _SCORED).is_file():
        calls = settings.reports_dir / "call_list.xlsx"  # an earlier release made the scored customers alone
        paths["call_list"] = calls if calls.is_file() else settings.reports_dir / _SCORED
    elif any(settings.reports_dir.glob(f"*/{_SCORED}")):
        notes.append(f"champion {version} has no call list; score the customers with it: {SCORE_AGAIN}")
    return paths, notes


def read_registration(settings: Settings) -> Registration | None:
    """The newest registration of this home; None before the first, and after another model than the one that it made
    champion has become it."""
    registration, champion = read_asset(settings, "registered_model", Registration), read_champion(settings.home)
    replaced = champion is None or registration is None or champion.version != registration.version
    return None if registration is not None and registration.alias == "champion" and replaced else registration


def report_folder(settings: Settings, version: str) -> Path:
    """Where the report of one model is kept, champion or not."""
    return settings.reports_dir / version


def report_version(settings: Settings) -> str | None:
    """The model that the report in `reports/` is of; None if there is none, or it does not say."""
    try:
        return str(read_json_object(settings.reports_dir / _VERSIONED)["version"])
    except (OSError, ValueError, KeyError):
        return None


def list_version(settings: Settings) -> str | None:
    """The model that scored the customers in `reports/`; None if there is no list, or it does not say."""
    try:
        with (settings.reports_dir / _SCORED).open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file), None)
    except (OSError, ValueError, csv.Error):
        return None
    return (row or {}).get("model_version") or None


def require_own_list(settings: Settings) -> None:
    """Raise AssetStale if the newest list of scored customers is of another model than the champion."""
    import pyarrow.parquet as pq

    champion, path = read_champion(settings.home), settings.assets_dir / "risk_list.parquet"
    if champion is None or not path.is_file():
        return
    versions = set(pq.read_table(path, columns=["model_version"])["model_version"].unique().to_pylist())
    if others := versions - {champion.version}:
        raise AssetStale(
            f"{path}: is of model {', '.join(sorted(others))}, expected champion {champion.version}; score the "
            f"customers with it: {SCORE_AGAIN}"
        )


def read_ledger_status(settings: Settings) -> LedgerStatus:
    """Everything that waits in this home. Raises LedgerCorrupt or LedgerUnavailable."""
    ledger = Ledger(settings.ledger_path)
    waiting = ledger.challengers("waiting_gate", "waiting_approval", "approved")
    newest = ledger.decisions(1)
    policies = Policies(ledger, ChampionPointer(settings.home), lambda: datetime.now(UTC))
    release = read_release_status(ledger, policies, settings.home)
    return LedgerStatus(tuple(waiting), tuple(ledger.requests(*IN_FLIGHT)), newest[0] if newest else None, release)


def read_events(settings: Settings) -> list[Event]:
    """Every move of the champion and of a release, approval and rejection of this home, oldest first."""
    ledger = Ledger(settings.ledger_path)
    releases = [move for move in ledger.policy_moves() if move.kind != "champion" or move.outcome]
    events = [
        Event(
            m.intended_at,
            m.kind if m.status == "done" else f"{m.kind}, {m.status}",
            m.to.version,
            m.by,
            m.why,
            before=f"champion {m.before}" if m.before else "no champion",
            after=f"champion {m.to.version}",
        )
        for m in ledger.moves()
    ]
    for a in ledger.approvals():
        result = "approved" if a.approved else "rejected"
        events.append(Event(a.at, result, a.version, str(a.by), a.why, after=result))
    events += [
        Event(
            c.changed_at, "refused", c.version, str(Gate()), c.message, before="waiting for the gate", after="refused"
        )
        for c in ledger.challengers("refused")
    ]
    events += [
        Event(h.frozen_at, "holdout renewed", h.version, renewal.by, f"{renewal.why} ({h.rows.num_rows:,} customers)")
        for h in renewals(settings.holdout_dir)
        if (renewal := h.renewal)
    ]
    events += [
        Event(
            move.intended_at,
            describe_move(move) if move.status == "done" else f"{describe_move(move)}, {move.status}",
            versions_of(move),
            move.by,
            move.why,
            move.numbers,
            before=describe_policy(move.before) if move.before else "no policy",
            after=describe_policy(move.after),
        )
        for move in releases
    ]
    return sorted(events, key=lambda event: event.at)


def read_asset(settings: Settings, name: str, kind: type[T]) -> T | None:
    """A small asset stored as JSON, or None if it was not made. Raises msgspec.ValidationError."""
    path = settings.assets_dir / f"{name}.json"
    return msgspec.convert(json.loads(read_file(path)), kind) if path.is_file() else None


def read_validation(settings: Settings) -> ValidationReport | None:
    """The report on the last validation, from the validated table's own metadata."""
    import pyarrow.parquet as pq

    from churn_assets.data.validation.report import report_of

    path = settings.assets_dir / "validated_customers.parquet"
    if not path.is_file():
        return None
    return report_of(pq.read_schema(path))


def _describe_challenger(challenger: Challenger, policy: Policy | None) -> str:
    version = challenger.version
    if challenger.status == "approved" and policy is not None and policy.kind in ANSWERING:
        answers = version in {arm.version for arm in policy.arms}
        state = "is let in by" if answers else "was approved and waits for the end of"
        return f"challenger {version} {state} policy {policy.id}: churn release status"
    if challenger.status == "waiting_approval":
        return (
            f"challenger {version} has passed the gate and waits for a person: "
            f'churn approve {version} --by NAME --why "..."'
        )
    if challenger.attempt > ATTEMPTS:
        return (
            f"challenger {version}: {challenger.message}; it was tried {ATTEMPTS} times. Repair that, then: "
            "dagster asset materialize --select promotion -m churn_assets.definitions"
        )
    status = "was approved and becomes champion" if challenger.status == "approved" else "waits for the gate"
    return f"challenger {version} {status}: the sensor promote_on_approval of a running daemon starts the run"


def _existing(paths: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items() if path.exists()}
