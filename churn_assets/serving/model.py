"""Which bundle this process answers with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from churn_assets.release.state import require_champion
from churn_assets.scoring.bundle import load_bundle
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings

PACKED = "bundle"  # the folder beside the package, inside a Bento


def find_bundle(environ: Mapping[str, str], beside: Path | None = None) -> Path:
    """CHURN_BUNDLE if set, else the bundle packed into this Bento, else the champion of CHURN_HOME.

    Raises NoChampion or PointerCorrupt if there is none of these.
    """
    if named := environ.get("CHURN_BUNDLE"):
        return Path(named)
    packed = (beside or Path(__file__).resolve().parents[2]) / PACKED
    if (packed / "manifest.json").is_file():
        return packed
    home = Settings.from_environ(environ).home
    return require_champion(home).path(home)


def load_model(environ: Mapping[str, str], beside: Path | None = None) -> Scorer:
    """The verified scorer of `find_bundle`. Raises ChurnError."""
    return load_bundle(find_bundle(environ, beside))
