"""Which bundle this process answers with, and how another takes its place while requests go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.errors import ChurnError
from churn_assets.features.compile import RuleProgram, compile_rules
from churn_assets.promotion.pointer import require_champion
from churn_assets.scoring.bundle import load_bundle, read_card, read_provenance
from churn_assets.scoring.ladder import read_ladder
from churn_assets.scoring.online.scorer import OneRow
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings

PACKED = "bundle"  # the folder beside the package, inside a Bento
RETRY_S = 30.0  # a bundle that was refused is looked at again; it may have been half copied


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


@dataclass(frozen=True)
class Served:
    """A bundle ready to answer: its scorer, the quick way for one row, rules, and what people read."""

    path: Path
    scorer: Scorer
    one: OneRow
    rules: tuple[RuleProgram, ...]
    card: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    ladder: Mapping[str, Any] | None = None

    @property
    def contract(self) -> Contract:
        """The contract the bundle was made under."""
        return self.scorer.contract


def load_served(path: Path) -> Served:
    """Load, verify and warm a bundle; its golden rows are replayed by both ways of scoring.

    Raises BundleCorrupt or BundleMismatch.
    """
    scorer = load_bundle(path)
    told = read_card(path), read_provenance(path), read_ladder(path, scorer.version)
    served = Served(path, scorer, OneRow(scorer), compile_rules(scorer.contract), *told)
    replay_one_by_one(served)
    return served


def replay_one_by_one(served: Served) -> None:
    """Golden rows through the quick way. Raises BundleCorrupt if it gives another probability."""
    import json

    from churn_assets.errors import BundleCorrupt, RowsRejected
    from churn_assets.scoring.bundle import GOLDEN, GOLDEN_TOLERANCE

    golden = json.loads((served.path / GOLDEN).read_bytes())
    instants = golden["as_of_days"]
    for index, (row, expected) in enumerate(zip(golden["rows"], golden["probability"], strict=True)):
        at = instants[index] if isinstance(instants, list) else instants
        try:
            found = served.one.score(row, at).probability
        except RowsRejected:
            continue  # the contract's rules are stricter than its table was; no answer is no wrong answer
        if not abs(found - expected) <= GOLDEN_TOLERANCE:
            raise BundleCorrupt(
                f"{served.path / GOLDEN}: row {index} scores {found:.9f} alone, it must score {expected:.9f}; "
                "features or model compute otherwise here, train again"
            )


class Models:
    """The bundle that answers, and the watch on the one that should.

    `current` is one reference, replaced whole: a request takes it once and keeps it. `refused` says why
    the bundle that should answer does not. Clients read these words, so no folder above `home` or above the
    bundle is in them.
    """

    def __init__(
        self,
        find: Callable[[], Path],
        load: Callable[[Path], Served] = load_served,
        told: Callable[[Served], None] = lambda served: None,
        clock: Callable[[], float] = time.monotonic,
        home: Path | None = None,
    ) -> None:
        self._find, self._load, self._told, self._clock, self._home = find, load, told, clock, home
        self.current: Served | None = None
        self.refused: str | None = None
        self.missing = "no model has been looked for yet; ask again in a second"
        self.swaps = self.refusals = 0
        self._refused_path: Path | None = None
        self._refused_at = 0.0

    def look(self) -> None:
        """Find the bundle that should answer; if it is another, load it, and swap if it is sound."""
        try:
            path = self._find().resolve()
        except ChurnError as error:
            self.missing = self._words(error)
            # What answers goes on answering when the pointer cannot be read.
            self.refused = self.missing if self.current is not None else None
            return
        if self.current is not None and path == self.current.path:
            self.refused = self._refused_path = None
            return
        if path == self._refused_path and self._clock() - self._refused_at < RETRY_S:
            return
        try:
            served = self._load(path)
        except (ChurnError, OSError) as error:
            self.refusals += path != self._refused_path
            self._refused_path, self._refused_at = path, self._clock()
            self.refused = self.missing = self._words(error, path.parent)
            return
        self.swaps += self.current is not None
        self.current, self.refused, self._refused_path = served, None, None
        self._told(served)

    def _words(self, error: Exception, *folders: Path) -> str:
        words = " ".join(str(error).split())
        for folder in (*folders, self._home):
            words = words if folder is None else words.replace(f"{folder}{os.sep}", "")
        return words
