"""What a home knows of its versions: figures of their cards, their roles, and what a person may do about each now."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.errors import BundleError
from churn_assets.evaluation.bootstrap import Figure
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.records import Challenger, Move
from churn_assets.promotion.rollout.policies import RUNNING
from churn_assets.release.policy import ANSWERING, read_policy
from churn_assets.scoring.bundle import read_card, read_provenance
from churn_assets.scoring.card import ModelCard

PARTS = (("test", "test customers"), ("oot", "newest customers"), ("validation", "validation, out of fold"))
METRICS = (("pr_auc", "PR-AUC"), ("roc_auc", "ROC AUC"), ("log_loss", "log-loss"), ("brier", "Brier score"))
_VERSION = re.compile(r"[0-9a-f]{16}")
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
class Known:
    """What pointer, policy and ledger say of the versions."""

    champion: str
    challengers: tuple[Challenger, ...]
    moves: tuple[Move, ...]
    bundles: tuple[str, ...]
    release: str  # the kind of the release that runs, "" without one
    running: tuple[str, ...]  # versions that it lets in beside the champion

    @classmethod
    def of(cls, sources: Sources, problems: list[str]) -> Known:
        """What can be read; what cannot is among the `problems`."""
        champion = attempt(problems, lambda: read_champion(sources.settings.home))
        challengers = attempt(problems, lambda: sources.ledger.challengers()) or ()
        moves = attempt(problems, lambda: sources.ledger.moves("done")) or ()
        folder = sources.settings.bundles_dir
        bundles = sorted(p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name)) if folder.is_dir() else []
        policy = attempt(problems, lambda: read_policy(sources.settings.home))
        version = champion.version if champion else ""
        in_force = policy is not None and policy.champion.version == version and policy.kind in RUNNING
        kind = policy.kind if policy and in_force else ""
        running = tuple(arm.version for arm in policy.arms if arm.version != version) if policy and in_force else ()
        return cls(version, tuple(challengers), tuple(moves), tuple(bundles), kind, running)

    def versions(self) -> list[str]:
        """Every version that has a bundle or a line in the ledger."""
        others = [*(c.version for c in self.challengers), *(m.to.version for m in self.moves)]
        return list(dict.fromkeys([*self.bundles, *others]))

    def newest(self, version: str) -> Challenger | None:
        """The newest round of a version at the gate."""
        return next((c for c in reversed(self.challengers) if c.version == version), None)

    def role(self, version: str) -> str:
        """As `Model.role`."""
        challenger = self.newest(version)
        if version == self.champion:
            return "champion"
        if challenger is not None and challenger.status in _REJECTABLE:
            return challenger.status.replace("_", " ")
        if self._was_champion(version):
            return "former champion"
        return challenger.status.replace("_", " ") if challenger else "registered"

    def actions(self, version: str) -> tuple[str, ...]:
        """What a person may do about a version now."""
        challenger = self.newest(version)
        status = "" if challenger is None or version == self.champion else challenger.status
        may_answer = status in ("approved", "rejected") or self._was_champion(version)
        possible = {
            "approve": status in _APPROVABLE,
            "reject": status in _REJECTABLE,
            "roll-back": version != self.champion and self._was_champion(version),
            "shadow": self._is_free(version) and version in self.bundles,
            "canary": may_answer and (self._is_free(version) or (version in self.running and self.release == "shadow")),
            "ab": self._is_free(version) and may_answer,
            "promote": self._may_be_promoted(version, status, may_answer),
            "end": version in self.running,
        }
        return tuple(name for name, there in possible.items() if there)

    def _was_champion(self, version: str) -> bool:
        first = self.moves[0].before if self.moves else None
        return version in {first, *(move.to.version for move in self.moves)}

    def _may_be_promoted(self, version: str, status: str, may_answer: bool) -> bool:
        """An arm of the release that runs, or an approved challenger while no other answers beside the champion."""
        return may_answer if version in self.running else status == "approved" and self.release not in ANSWERING

    def _is_free(self, version: str) -> bool:
        """Whether a release of this version can begin: none runs, and it does not answer."""
        return not self.running and self.champion not in ("", version)


def describe_model(sources: Sources, known: Known, version: str) -> Model:
    """One version; a bundle that cannot be read is its `problem`."""
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
        pr_auc=figure_of(card, "test_pr_auc") if card else None,
        passed=challenger.verdict.passed if challenger and challenger.verdict else None,
        approved_by=str(challenger.approved_by or "") if challenger else "",
        registered_version=number,
        problem=problem,
    )


def figure_of(card: ModelCard | None, name: str) -> Figure | None:
    """A metric of a card with its 95 % interval, None where the card does not have it."""
    value = card.metrics.get(name) if card else None
    if card is None or value is None:
        return None
    return Figure(value, card.metrics.get(f"{name}_low", value), card.metrics.get(f"{name}_high", value))


def _size_of(bundle: Path) -> int:
    return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) if bundle.is_dir() else 0
