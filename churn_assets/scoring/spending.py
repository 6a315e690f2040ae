"""A budget against the champion's call list of a home, for `churn budget`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from churn_assets.contract.load import parse_contract
from churn_assets.contract.policy import Value
from churn_assets.errors import AssetMissing
from churn_assets.promotion.pointer import require_champion
from churn_assets.scoring.budget import Plan, plan
from churn_assets.scoring.bundle import CONTRACT, read_card
from churn_assets.settings import Settings

_LIST = "risk_list"


@dataclass(frozen=True)
class Spending:
    """The plan, what it was made under, and how many customers the list has."""

    plan: Plan
    value: Value
    customers: int


def spend(settings: Settings, amount: float, capacity: bool = True) -> tuple[Spending, dict[str, Any]]:
    """The best use of `amount` on the home's call list, and the champion's card.

    Raises NoChampion, AssetMissing without a list, and SettingsError for an amount that cannot be.
    """
    import pyarrow.parquet as pq

    bundle = require_champion(settings.home).path(settings.home)
    path = settings.assets_dir / f"{_LIST}.parquet"
    if not path.is_file():
        raise AssetMissing(f"there is no call list at {path}, expected one to spend on; make it: churn run")
    value = parse_contract((bundle / CONTRACT).read_text(encoding="utf-8"), CONTRACT).value
    probability = pq.read_table(path, columns=["churn_probability"])["churn_probability"].to_numpy()
    return Spending(plan(probability, value, amount, capacity=capacity), value, len(probability)), read_card(bundle)
