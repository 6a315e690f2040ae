"""Which models of a home are in use: those that answer, wait, or may have to answer again."""

from __future__ import annotations

from churn_assets.promotion.champion import champions_in_line
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.release.policy import read_policy
from churn_assets.settings import Settings


def models_in_use(settings: Settings) -> dict[str, str]:
    """Versions and what each is used for: the champion, models of the release that runs, challengers that wait, and
    the champion before, to which a rollback goes. Raises PointerCorrupt, PolicyCorrupt or LedgerCorrupt: what cannot be
    read may name a model."""
    uses: dict[str, str] = {}
    champion, policy = read_champion(settings.home), read_policy(settings.home)
    if champion is not None:
        uses[champion.version] = "champion"
    for arm in policy.arms if policy is not None else ():
        uses.setdefault(arm.version, f"{policy.kind} {arm.name}" if policy is not None else "")
    ledger = Ledger(settings.ledger_path)
    for challenger in ledger.challengers("waiting_gate", "waiting_approval", "approved"):
        uses.setdefault(challenger.version, "challenger")
    former = [v for v in champions_in_line(ledger.moves("done")) if champion is None or v != champion.version]
    if former:
        uses.setdefault(former[-1], "champion before")
    return uses
