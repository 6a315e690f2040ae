"""Which bundle this process answers with, and how another replaces it while requests go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from churn_assets.contract.model import Contract
from churn_assets.errors import ChurnError
from churn_assets.promotion.pointer import champion_bundle
from churn_assets.scoring.bundle import load_bundle, read_card, read_ladder, read_provenance
from churn_assets.scoring.card import LadderFile
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings

PACKED = "bundle"  # the folder beside the package, inside a Bento
RETRY_S = 30.0  # a refused bundle is tried again; it may have been copied only in part
CHAMPION = "champion"


def find_bundle(environ: Mapping[str, str], package_parent: Path | None = None) -> Path:
    """CHURN_BUNDLE if set, else the bundle packed into this Bento, else the champion of CHURN_HOME. `package_parent` is
    the folder of this package unless a test says otherwise. Raises NoChampion, PointerCorrupt."""
    if named := environ.get("CHURN_BUNDLE"):
        return Path(named)
    packed = (package_parent or Path(__file__).resolve().parents[2]) / PACKED
    if (packed / "manifest.json").is_file():
        return packed
    return champion_bundle(Settings.from_environ(environ).home)


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
    """Load and verify a bundle. Raises BundleCorrupt or BundleMismatch."""
    scorer = load_bundle(path)
    card, provenance, ladder = read_card(path), read_provenance(path), read_ladder(path, scorer.version)
    return ServedModel(
        path=path,
        scorer=scorer,
        customers=CustomerScorer(scorer),
        metrics=card.metrics,
        as_of=card.as_of,
        trained_at=provenance.made_at or None,
        generated=bool(provenance.generated),
        ladder=ladder,
    )


@dataclass(frozen=True, slots=True)
class Arm:
    """The model that answers a request, and by which policy it was chosen."""

    model: ServedModel
    name: str = CHAMPION
    policy: str = CHAMPION


class ModelWatcher:
    """The model that answers, and the check for the one that should.

    `arm` is one reference, replaced whole: a request takes it once and keeps it. `refused` says why the bundle that
    should answer does not. Clients read it, so no folder above `home` or above the bundle is in it.
    """

    def __init__(
        self,
        find: Callable[[], Path],
        load: Callable[[Path], ServedModel] = load_served_model,
        on_change: Callable[[ServedModel], None] = lambda model: None,
        clock: Callable[[], float] = time.monotonic,
        home: Path | None = None,
    ) -> None:
        self._find, self._load, self._on_change, self._clock, self._home = find, load, on_change, clock, home
        self.arm: Arm | None = None
        self.refused: str | None = None
        self.missing = "no model has been loaded yet; ask again in a second"
        self.refusals = 0
        self._refused_path: Path | None = None
        self._refused_at = 0.0

    @property
    def current(self) -> ServedModel | None:
        """The model that answers, None if there is none."""
        return None if self.arm is None else self.arm.model

    def check(self) -> None:
        """Find the bundle that should answer; if it is another, load it, and swap if it is complete."""
        try:
            path = self._find().resolve()
        except (ChurnError, OSError, RuntimeError) as error:  # of a path that cannot be resolved, too
            self.missing = self._text(error)
            # The current model goes on answering when the pointer cannot be read.
            self.refused = self.missing if self.arm is not None else None
            return
        if self.arm is not None and path == self.arm.model.path:
            self.refused = self._refused_path = None
            return
        if path == self._refused_path and self._clock() - self._refused_at < RETRY_S:
            return
        try:
            model = self._load(path)
        except Exception as error:  # whatever a damaged bundle makes a library raise: the present model answers
            self.refusals += path != self._refused_path
            self._refused_path, self._refused_at = path, self._clock()
            self.refused = self.missing = self._text(error, path.parent)
            return
        self.arm, self.refused, self._refused_path = Arm(model), None, None
        self._on_change(model)

    def _text(self, error: Exception, *folders: Path) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        for folder in (*folders, self._home):
            text = text if folder is None else text.replace(f"{folder}{os.sep}", "")
        return text
