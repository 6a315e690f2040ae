"""Homes in which a release can begin: a champion, and challengers that the gate has judged."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from functools import cache
from pathlib import Path

from churn_assets.promotion.champion import ChampionMoves
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import Champion, ChampionPointer
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, verdict
from churn_assets_tests.scoring.tiny import TEXT
from churn_assets_tests.serving.client import SCORER, make_bundle
from churn_assets_tests.strategies import ROOT


@dataclasses.dataclass(frozen=True)
class Home:
    """A home: its champion, a challenger that has passed the gate, and one that was refused."""

    path: Path
    champion: str
    challenger: str
    refused: str

    @property
    def settings(self) -> Settings:
        environ = {"CHURN_HOME": str(self.path), "CHURN_CONTRACT": str(self.path / "tiny.toml")}
        return Settings.from_environ(environ, ROOT)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings.ledger_path)


def make_home(path: Path) -> Home:
    """Under the tiny contract; a copy of one that is made once a process."""
    folder, versions = _template()
    shutil.copytree(folder.name, path)
    return Home(path, *versions)


@cache
def _template() -> tuple[tempfile.TemporaryDirectory[str], tuple[str, str, str]]:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name)
    first, second, third = (make_bundle(path, kind).name for kind in ("boosted", "logistic", "network"))
    (path / "tiny.toml").write_text(TEXT)
    home = Home(path, first, second, third)
    bundles, ledger = home.settings.bundles_dir, home.ledger
    to = Champion(first, f"bundles/{first}", SCORER.contract.fingerprint, None, AT, "training", "first")
    ChampionMoves(bundles, ledger, ChampionPointer(path), lambda: AT).move(to, "first", "training", "first")
    for version, passed in ((second, True), (third, False)):
        ledger.add_challenger(version, f"bundles/{version}", bundle_hash(bundles / version), None, None, AT)
        judged = dataclasses.replace(verdict(version, passed), champion=first)
        ledger.record_verdict(version, judged, needs_person=False, at=AT)
    return folder, (first, second, third)
