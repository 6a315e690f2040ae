"""Homes with bundles that are sealed as real ones are, and hold nothing but a line of text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from churn_assets.promotion.pointer import Champion
from churn_assets.settings import Settings
from churn_assets.storage.sealed import seal

FINGERPRINT = "f" * 64
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def place(home: Path) -> Settings:
    """Settings of this home and of nothing else."""
    return Settings(root=home, home=home, contract_path=home / "none.toml")


def bundle(home: Path, text: str, fingerprint: str = FINGERPRINT) -> str:
    """The version of a new bundle in this home."""
    return seal(
        home / "bundles",
        lambda folder: (folder / "card.json").write_text(text),
        {"fingerprint": fingerprint},
        unversioned=frozenset({"provenance.json"}),
        check=lambda folder: None,
    ).name


def home_with(home: Path, bundles: int) -> tuple[Settings, list[str]]:
    """A home with so many bundles; their versions."""
    return place(home), [bundle(home, f"bundle {number}") for number in range(bundles)]


def champion(version: str, fingerprint: str = FINGERPRINT) -> Champion:
    """A champion of one of them."""
    return Champion(version, f"bundles/{version}", fingerprint, None, AT, "training", "a reason")
