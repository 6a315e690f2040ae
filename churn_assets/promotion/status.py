"""What a home holds, for `churn status`, `churn run` and anything else that asks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churn_assets.promotion.history import Standing, read_standing
from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.scoring.bundle import read_card, read_provenance
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.data.validation.report import ValidationReport


@dataclass(frozen=True)
class Status:
    """The champion of a home with its card, where it came from and where things lie.

    `champion` is None before the first model; then `card` and `provenance` are empty.
    """

    champion: Champion | None
    card: dict[str, Any]
    provenance: dict[str, Any]
    paths: dict[str, str]
    standing: Standing = field(default_factory=Standing)

    def to_json(self) -> dict[str, Any]:
        """Flat enough for scripts: version, contract, model, metrics, thresholds, source, paths."""
        found: dict[str, Any] = {"version": None, "contract": None, "metrics": {}, "paths": self.paths}
        found["release"] = self.standing.to_json()
        if self.champion is None:
            return found
        return {
            **found,
            "version": self.champion.version,
            "registered_version": self.champion.registered_version,
            "since_at": self.champion.since_at.isoformat(),
            "reason": self.champion.reason,
            "contract": self.card["contract"],
            "fingerprint": self.champion.fingerprint,
            "model": self.card["chosen"],
            "metrics": self.card["metrics"],
            "thresholds": self.card["thresholds"],
            "source": self.card["source"],
            "generated": bool(self.provenance.get("generated")),
            "as_of": self.card["as_of"],
            "trained_at": self.provenance.get("made_at"),
        }


def read_status(settings: Settings) -> Status:
    """The state of this home. Raises PointerCorrupt or BundleCorrupt for files that cannot be read."""
    paths = {
        "home": settings.home,
        "call_list": settings.reports_dir / "risk_list.csv",
        "report": settings.reports_dir / "model_report.html",
        "card": settings.reports_dir / "model_card.md",
        "profile": settings.reports_dir / "data_profile.html",
        "rejected": settings.assets_dir / "rejected_customers.parquet",
        "mlflow": settings.mlflow_dir,
    }
    champion = read_champion(settings.home)
    standing = read_standing(settings)
    if champion is None:
        return Status(None, {}, {}, _there(paths), standing)
    bundle = champion.path(settings.home)
    there = _there({**paths, "bundle": bundle})
    return Status(champion, read_card(bundle), read_provenance(bundle), there, standing)


def read_asset(settings: Settings, name: str) -> Any:
    """A small asset kept as JSON, or None if it was not made."""
    path = settings.assets_dir / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_validation(settings: Settings) -> ValidationReport | None:
    """The report on the last validation, from the validated table's own metadata."""
    import pyarrow.parquet as pq

    from churn_assets.data.validation.report import report_of

    path = settings.assets_dir / "validated_customers.parquet"
    if not path.is_file():
        return None
    return report_of(pq.read_schema(path))


def _there(paths: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items() if path.exists()}
