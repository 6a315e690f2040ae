"""The models of a home: each version with its figures, the gate's verdict line by line, and what a person may do."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException

from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.errors import BundleError
from churn_assets.evaluation.bootstrap import Figure
from churn_assets.html.charts import Axis, Chart, Mark, intervals
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import Challenger, Check, Move
from churn_assets.promotion.rollout.policies import RUNNING
from churn_assets.promotion.rollout.status import ReleaseStatus, challenger_rows
from churn_assets.promotion.status import Event, read_events, report_folder
from churn_assets.release.policy import read_policy
from churn_assets.scoring.bundle import read_card, read_ladder, read_provenance
from churn_assets.scoring.card import ModelCard

REPORT = "model_report.html"
_VERSION = re.compile(r"[0-9a-f]{16}")
_PARTS = (("test", "test customers"), ("oot", "newest customers"), ("validation", "validation, out of fold"))
_METRICS = (("pr_auc", "PR-AUC"), ("roc_auc", "ROC AUC"), ("log_loss", "log-loss"), ("brier", "Brier score"))
_APPROVABLE, _REJECTABLE = ("waiting_approval",), ("waiting_gate", "waiting_approval", "approved")


@dataclass(frozen=True)
class Model:
    """One version. `role` is champion, former champion, the status of a challenger, or registered; `passed` whether the
    gate let it pass, None where it has not judged it; sizes are in bytes."""

    version: str
    role: str
    model: str
    trained_at: str
    size_bytes: int
    pr_auc: Figure | None
    passed: bool | None
    approved_by: str
    registered_version: int | None
    problem: str


@dataclass(frozen=True)
class ReleaseState:
    """The policy in force: its arms as (name, version, weight), what it waits for and how many rows its challenger has
    scored; `is_running` for a shadow, canary or ab."""

    policy: str
    kind: str
    arms: tuple[tuple[str, str, float], ...]
    is_running: bool
    waits_for: str
    rows: int
    by: str
    why: str
    since_at: dt.datetime


@dataclass(frozen=True)
class Models:
    """The page: the release, every version, the newest training first, and what happened to them, the newest first."""

    champion: str
    release: ReleaseState | None
    models: tuple[Model, ...]
    history: tuple[Event, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class MetricRow:
    """A metric of this model and of the champion on the same kind of rows, with their 95 % intervals."""

    metric: str
    rows: str
    own: Figure | None
    champion: Figure | None


@dataclass(frozen=True)
class ModelPage:
    """One version in full. `actions` are those that are possible now, `audit` sentences of the leakage audit; `report`
    says whether there is one to read."""

    model: Model
    champion: str
    reason: str
    source: str
    rows: int | None
    generated: bool
    threshold: float | None
    metrics: tuple[MetricRow, ...]
    verdict: str
    against: str
    checks: tuple[Check, ...]
    message: str
    audit: tuple[str, ...]
    actions: tuple[str, ...]
    report: bool
    history: tuple[Event, ...]
    problems: tuple[str, ...]


def read_models(sources: Sources, parameters: Mapping[str, str]) -> Models:
    """Every version of this home."""
    problems = list[str]()
    known = _Known.of(sources, problems)
    models = [_model(sources, known, version) for version in known.versions()]
    models.sort(key=lambda model: (model.role == "champion", model.trained_at), reverse=True)
    events = attempt(problems, lambda: read_events(sources.settings)) or []
    release = attempt(problems, lambda: read_release(sources)) if known.champion else None
    return Models(known.champion, release, tuple(models), tuple(reversed(events)), tuple(dict.fromkeys(problems)))


def read_model(sources: Sources, parameters: Mapping[str, str]) -> ModelPage:
    """One version. Raises HTTPException for one that this home does not have."""
    version, problems = parameters["version"], list[str]()
    known = _Known.of(sources, problems)
    if version not in known.versions():
        raise HTTPException(404, f"there is no model {version[:40]!r} in this home, expected one of /models")
    bundle, challenger = sources.settings.bundles_dir / version, known.newest(version)
    card = attempt(problems, lambda: read_card(bundle))
    provenance = attempt(problems, lambda: read_provenance(bundle))
    other = None
    if known.champion not in ("", version):
        other = attempt(problems, lambda: read_card(sources.settings.bundles_dir / known.champion))
    events = attempt(problems, lambda: read_events(sources.settings)) or []
    verdict = challenger.verdict if challenger else None
    model = _model(sources, known, version)
    return ModelPage(
        model=model,
        champion=known.champion,
        reason=card.reason if card else "",
        source=card.source if card else "",
        rows=card.rows if card else None,
        generated=bool(provenance and provenance.generated),
        threshold=card.thresholds.value if card else None,
        metrics=_metric_rows(card, other),
        verdict="" if verdict is None else verdict.reason,
        against="" if verdict is None else verdict.champion,
        checks=() if verdict is None else verdict.checks,
        message=challenger.message if challenger else "",
        audit=_audit(bundle, version),
        actions=known.actions(version),
        report=(report_folder(sources.settings, version) / REPORT).is_file(),
        history=tuple(event for event in reversed(events) if event.version == version),
        problems=tuple(dict.fromkeys(problems)),
    )


def read_release(sources: Sources) -> ReleaseState | None:
    """How the release stands; None while no policy is in force. Nothing is written: what a killed process left is
    finished by the next move. Raises PolicyCorrupt, PointerCorrupt, CountsUnreadable."""
    home = sources.settings.home
    policy, champion = read_policy(home), read_champion(home)
    if policy is None or champion is None or policy.champion.version != champion.version:
        return None
    rows = challenger_rows(home, policy) if policy.kind in RUNNING else 0
    status = ReleaseStatus(policy, (policy.id,), rows, None, (), "")
    arms = tuple((arm.name, arm.version, arm.weight) for arm in policy.arms)
    return ReleaseState(
        policy=policy.id,
        kind=policy.kind,
        arms=arms,
        is_running=status.is_running,
        waits_for=status.waits_for,
        rows=status.rows,
        by=policy.by,
        why=policy.why,
        since_at=policy.at,
    )


def draw_model(page: ModelPage) -> dict[str, Chart]:
    """PR-AUC of model and champion with their intervals."""
    rows = [
        (row.rows, [_mark(row.own, "a"), _mark(row.champion, "b")]) for row in page.metrics if row.metric == "PR-AUC"
    ]
    if not rows:
        return {}
    legend = [("this model", "a"), *([("champion", "b")] if page.champion != page.model.version else [])]
    return {"pr_auc": intervals("PR-AUC with 95 % intervals", rows, Axis("PR-AUC", 0.0, 1.0), legend)}


def actions_of(sources: Sources, version: str) -> tuple[str, ...]:
    """What a person may do about a version now. Raises LedgerCorrupt, LedgerUnavailable, PointerCorrupt."""
    problems = list[str]()
    known = _Known.of(sources, problems)
    return known.actions(version)


def _mark(figure: Figure | None, style: str) -> Mark:
    return Mark(None) if figure is None else Mark(figure.value, figure.low, figure.high, style)


@dataclass(frozen=True)
class _Known:
    """What pointer and ledger say."""

    champion: str
    challengers: tuple[Challenger, ...]
    moves: tuple[Move, ...]
    bundles: tuple[str, ...]
    running: tuple[str, ...]  # versions that a release lets in beside the champion

    @classmethod
    def of(cls, sources: Sources, problems: list[str]) -> _Known:
        champion = attempt(problems, lambda: read_champion(sources.settings.home))
        challengers = attempt(problems, lambda: sources.ledger.challengers()) or ()
        moves = attempt(problems, lambda: sources.ledger.moves("done")) or ()
        folder = sources.settings.bundles_dir
        bundles = sorted(p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name)) if folder.is_dir() else []
        policy = attempt(problems, lambda: read_policy(sources.settings.home))
        version = champion.version if champion else ""
        in_force = policy is not None and policy.champion.version == version and policy.kind in RUNNING
        running = tuple(arm.version for arm in policy.arms if arm.version != version) if policy and in_force else ()
        return cls(version, tuple(challengers), tuple(moves), tuple(bundles), running)

    def versions(self) -> list[str]:
        others = [*(c.version for c in self.challengers), *(m.to.version for m in self.moves)]
        return list(dict.fromkeys([*self.bundles, *others]))

    def newest(self, version: str) -> Challenger | None:
        return next((c for c in reversed(self.challengers) if c.version == version), None)

    def was_champion(self, version: str) -> bool:
        first = self.moves[0].before if self.moves else None
        return version in {first, *(move.to.version for move in self.moves)}

    def role(self, version: str) -> str:
        challenger = self.newest(version)
        if version == self.champion:
            return "champion"
        if challenger is not None and challenger.status in _REJECTABLE:
            return challenger.status.replace("_", " ")
        if self.was_champion(version):
            return "former champion"
        return challenger.status.replace("_", " ") if challenger else "registered"

    def _is_free(self, version: str) -> bool:
        """Whether a release of this version can begin: none runs, and it does not answer."""
        return not self.running and self.champion not in ("", version)

    def actions(self, version: str) -> tuple[str, ...]:
        challenger = self.newest(version)
        status = "" if challenger is None or version == self.champion else challenger.status
        possible = {
            "approve": status in _APPROVABLE,
            "reject": status in _REJECTABLE,
            "roll-back": version != self.champion and self.was_champion(version),
            "shadow": self._is_free(version) and version in self.bundles,
            "canary": (self._is_free(version) or version in self.running)
            and (status in ("approved", "rejected") or self.was_champion(version)),
            "promote": version in self.running and status in ("approved", "rejected"),
            "end": version in self.running,
        }
        return tuple(name for name, there in possible.items() if there)


def _model(sources: Sources, known: _Known, version: str) -> Model:
    bundle, challenger, problem = sources.settings.bundles_dir / version, known.newest(version), ""
    card, trained_at = None, ""
    try:
        card, trained_at = read_card(bundle), read_provenance(bundle).made_at or ""
    except BundleError as error:
        problem = str(error)
    number = challenger.registered_version if challenger else None
    if number is None:
        number = next((m.to.registered_version for m in reversed(known.moves) if m.to.version == version), None)
    return Model(
        version=version,
        role=known.role(version),
        model=card.chosen if card else "",
        trained_at=trained_at,
        size_bytes=_size_of(bundle),
        pr_auc=_figure(card, "test_pr_auc") if card else None,
        passed=challenger.verdict.passed if challenger and challenger.verdict else None,
        approved_by=str(challenger.approved_by or "") if challenger else "",
        registered_version=number,
        problem=problem,
    )


def _size_of(bundle: Path) -> int:
    return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) if bundle.is_dir() else 0


def _figure(card: ModelCard, name: str) -> Figure | None:
    value = card.metrics.get(name)
    if value is None:
        return None
    return Figure(value, card.metrics.get(f"{name}_low", value), card.metrics.get(f"{name}_high", value))


def _metric_rows(card: ModelCard | None, champion: ModelCard | None) -> tuple[MetricRow, ...]:
    rows = []
    for metric, title in _METRICS if card else ():
        for part, name in _PARTS:
            assert card is not None
            own = _figure(card, f"{part}_{metric}")
            other = _figure(champion, f"{part}_{metric}") if champion else None
            if own is not None or other is not None:
                rows.append(MetricRow(title, name, own, other))
    return tuple(rows)


def _audit(bundle: Path, version: str) -> tuple[str, ...]:
    """What the leakage audit says about the model, in sentences."""
    ladder = read_ladder(bundle, version)
    return () if ladder is None else (*(ladder.sentences or ()), *(ladder.left_out_sentences or ()))
