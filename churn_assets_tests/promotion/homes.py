"""Homes with bundles that are sealed as real ones are, and hold nothing but a line of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from churn_assets.contract.model import Contract
from churn_assets.mlflow_registry.registry import Alias
from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer
from churn_assets.promotion.records import Check, Decision, Move, Verdict
from churn_assets.settings import Settings
from churn_assets.storage.sealed import seal

FINGERPRINT = "f" * 64
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def place(home: Path) -> Settings:
    """Settings of this home and of nothing else."""
    return Settings(root=home, home=home, contract_path=home / "none.toml")


def bundle(home: Path, text: str, fingerprint: str = FINGERPRINT, contract: str | None = None) -> str:
    """The version of a new bundle in this home; with the text of a contract if it is given."""

    def write(folder: Path) -> None:
        (folder / "card.json").write_text(text)
        if contract is not None:
            (folder / "contract.toml").write_text(contract)

    return seal(home / "bundles", write, {"fingerprint": fingerprint}, check=lambda folder: None).name


def home_with(home: Path, bundles: int, contract: str | None = None) -> tuple[Settings, list[str]]:
    """A home with so many bundles; their versions."""
    return place(home), [bundle(home, f"bundle {number}", contract=contract) for number in range(bundles)]


def champion(version: str, fingerprint: str = FINGERPRINT) -> Champion:
    """A champion of one of them."""
    return Champion(version, f"bundles/{version}", fingerprint, None, AT, "training", "a reason")


def verdict(version: str, passed: bool = True, message: str = "better") -> Verdict:
    """A verdict of one check on a challenger."""
    return Verdict("v1", version, (Check("holdout_pr_auc", 0.01, 0.0, passed, message),))


def record_decision(ledger: Ledger, decision: Decision, at: datetime) -> int:
    """Store a decision that was made already; its number."""
    return ledger.decide(lambda _: decision, at).number


class FakeRegistry:
    """A registry in memory: numbers by bundle version, aliases, and the tags of each number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.aliases: dict[str, int] = {}
        self.tags: dict[int, dict[str, str]] = {}

    def register(self, run_id: str, contract: Contract, bundle: Path, bundle_version: str) -> int:
        return self.numbers.setdefault(bundle_version, len(self.numbers) + 1)

    def set_alias(self, alias: Alias, number: int) -> int | None:
        before, self.aliases[alias] = self.aliases.get(alias), number
        return None if before == number else before

    def set_tags(self, number: int, tags: Mapping[str, str]) -> None:
        self.tags.setdefault(number, {}).update(tags)


def moves(
    settings: Settings,
    ledger: Ledger | None = None,
    pointer: ChampionPointer | None = None,
    clock: Callable[[], datetime] = lambda: AT,
) -> ChampionMoves:
    """The moves of a home's champion, at the instant AT."""
    ledger, pointer = ledger or Ledger.of(settings), pointer or ChampionPointer(settings.home)
    return ChampionMoves(settings.bundles_dir, ledger, pointer, clock)


def history(settings: Settings) -> list[Move]:
    """Every move of a home's champion, oldest first."""
    return list(Ledger.of(settings).moves())
