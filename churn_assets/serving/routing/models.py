"""A model of the service: a bundle that is loaded, verified and warm."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.errors import RowsRejected
from churn_assets.promotion.pointer import champion_bundle
from churn_assets.scoring.bundle import GOLDEN, load_bundle, read_card, read_ladder, read_provenance
from churn_assets.scoring.card import LadderFile
from churn_assets.scoring.models.base import read_json
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings

PACKED = "bundle"  # the folder beside the package, inside a Bento


def named_bundle(environ: Mapping[str, str], package_parent: Path | None = None) -> Path | None:
    """CHURN_BUNDLE if set, else the bundle packed into this Bento; None for a service that follows the champion of its
    home. `package_parent` is the folder of this package unless a test says otherwise."""
    if named := environ.get("CHURN_BUNDLE"):
        return Path(named)
    packed = (package_parent or Path(__file__).resolve().parents[3]) / PACKED
    return packed if (packed / "manifest.json").is_file() else None


def find_bundle(environ: Mapping[str, str], package_parent: Path | None = None) -> Path:
    """`named_bundle`, else the champion of CHURN_HOME. Raises NoChampion, PointerCorrupt."""
    return named_bundle(environ, package_parent) or champion_bundle(Settings.from_environ(environ).home)


@dataclass(frozen=True)
class ServedModel:
    """A bundle ready to answer: its scorer, and the facts that /model and the page show.

    `metrics` are the card's, on test rows; `as_of` is the day of the training customers' values; `ladder` is the
    audit's, None if it was not computed for this version.
    """

    path: Path
    scorer: Scorer
    customers: CustomerScorer
    metrics: Mapping[str, float | None]
    as_of: str | None
    trained_at: str | None
    generated: bool
    ladder: LadderFile | None

    @property
    def contract(self) -> Contract:
        """The contract the bundle was made under."""
        return self.scorer.contract


def load_served_model(path: Path) -> ServedModel:
    """Load and verify a bundle, and score its golden rows as customers are scored: the first of them is not slower than
    the next. Raises BundleCorrupt or BundleMismatch."""
    scorer = load_bundle(path)
    card, provenance, ladder = read_card(path), read_provenance(path), read_ladder(path, scorer.version)
    customers = CustomerScorer(scorer)
    _warm(customers, path)
    return ServedModel(
        path=path,
        scorer=scorer,
        customers=customers,
        metrics=card.metrics,
        as_of=card.as_of,
        trained_at=provenance.made_at or None,
        generated=bool(provenance.generated),
        ladder=ladder,
    )


def _warm(customers: CustomerScorer, path: Path) -> None:
    """Score the golden rows, which `load_bundle` has compared, one by one and together."""
    golden = read_json(path / GOLDEN)
    rows = golden["rows"]
    days = np.broadcast_to(np.asarray(golden["as_of_days"], dtype=np.float64), (len(rows),)).tolist()
    for row, day in zip(rows, days, strict=True):
        with contextlib.suppress(RowsRejected):  # by a rule, which their table was not held to
            customers.score(row, day)
    with contextlib.suppress(RowsRejected):
        customers.score_many(rows, days[0])
