"""The list of scored customers as pages use it: the asset `risk_list` beside the customers' own columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn_assets.contract.limits import Value
from churn_assets.contract.model import Contract, Kind
from churn_assets.dashboard.sources import Sources
from churn_assets.data.customers import table_rows
from churn_assets.errors import AssetStale, one_line
from churn_assets.promotion.pointer import read_champion
from churn_assets.scoring.budget import list_discount, list_value
from churn_assets.scoring.call_list import MISSING
from churn_assets.scoring.scorer import Discount
from churn_assets.storage.files import open_file

LIST, CUSTOMERS, IMPORTANCE = "risk_list.parquet", "validated_customers.parquet", "feature_importance.json"


@dataclass(frozen=True)
class CallData:
    """`listed` is the list in its order; `customers` are the same customers row by row, with the contract's columns,
    null where the table does not have a customer. `version` is the model that scored, `champion` the one that answers
    now."""

    listed: pa.Table
    customers: pa.Table
    contract: Contract
    value: Value
    discount: Discount
    version: str
    champion: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns with levels by which the list can be filtered."""
        kinds = (Kind.CATEGORY, Kind.BOOLEAN)
        names = (c.name for c in self.contract.scoring_columns if c.kind in kinds)
        return tuple(name for name in names if name in self.customers.column_names)

    def levels(self, column: str) -> list[str]:
        """The level of each customer as text, in the order of the list."""
        names = {True: "yes", False: "no", None: MISSING}
        cells = self.customers[column].to_pylist()
        return [names[c] if isinstance(c, bool) or c is None else str(c) for c in cells]


def read_call_data(sources: Sources) -> CallData | None:
    """The newest list; None before the first. Raises AssetStale for files that cannot be read, BundleError,
    ContractError and PointerCorrupt."""
    path = sources.settings.assets_dir / LIST
    champion = read_champion(sources.settings.home)
    if champion is None or not path.is_file():
        return None
    contract = sources.contract()
    listed = sources.parsed(path, _read)
    version = str(listed["model_version"][0]) if listed.num_rows else champion.version
    bundle = sources.settings.bundles_dir / version
    value = list_value(bundle, listed)
    if "customer_value" not in listed.column_names:  # a list of an earlier release
        same = pa.repeat(pa.scalar(value.customer_value), listed.num_rows)
        listed = listed.append_column("customer_value", same)
        listed = listed.append_column("control", pa.repeat(pa.scalar(False), listed.num_rows))
    customers = sources.parsed(sources.settings.assets_dir / CUSTOMERS, _read)
    customers = table_rows(customers)
    rows = pc.index_in(listed["customer_id"], value_set=customers[contract.key.name].cast(pa.string()))
    return CallData(listed, customers.take(rows), contract, value, list_discount(bundle), version, champion.version)


def read_importance(sources: Sources) -> tuple[tuple[str, float], ...]:
    """(feature, importance) of the model whose report stands, the largest first; empty without one."""
    path = sources.settings.reports_dir / IMPORTANCE
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_bytes())["features"]
        return tuple(sorted(((str(r["feature"]), float(r["value"])) for r in rows), key=lambda row: -row[1]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path}: cannot be read ({one_line(error, 120)}), expected the importance of features"
        raise AssetStale(f"{message}; run `churn run`: it is made again") from error


def _read(path: Path) -> pa.Table:
    try:
        with open_file(path) as file:
            return pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        message = f"{path}: cannot be read ({one_line(error, 120)}), expected an asset of this home"
        raise AssetStale(f"{message}; run `churn run`: it is made again") from error
