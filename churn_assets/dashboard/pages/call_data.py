"""The list of scored customers as pages use it: the asset `risk_list` beside the customers' own columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn_assets.contract.limits import Value
from churn_assets.contract.model import Contract, Kind
from churn_assets.dashboard.sources import Sources
from churn_assets.data.customers import table_rows
from churn_assets.errors import AssetStale, one_line
from churn_assets.prediction_log.warehouse.published import stamp_of
from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.scoring.budget import list_discount, list_value
from churn_assets.scoring.call_list import MISSING, REASON_COLUMNS, Segment, by_segment
from churn_assets.scoring.prices import Prices
from churn_assets.scoring.scorer import Discount
from churn_assets.storage.files import open_file

Texts = npt.NDArray[np.object_]

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

    def levels(self, column: str) -> Texts:
        """The level of each customer as text (n,), in the order of the list."""
        names = {True: "yes", False: "no", None: MISSING}
        cells = self.customers[column].to_pylist()
        return np.array([names[c] if isinstance(c, bool) or c is None else str(c) for c in cells], dtype=object)

    @cached_property
    def bands(self) -> Texts:
        """The risk band of each customer (n,)."""
        return np.array(self.listed["risk_band"].to_pylist(), dtype=object)

    @cached_property
    def reasons(self) -> list[tuple[str, ...]]:
        """Why the score of each customer is high."""
        names = [name for name in REASON_COLUMNS if name in self.listed.column_names]
        columns = [self.listed[name].to_pylist() for name in names]
        if not columns:
            return [()] * self.listed.num_rows
        return [tuple(text for text in texts if text) for texts in zip(*columns, strict=True)]

    @cached_property
    def heads(self) -> list[str]:
        """What the first reason of each customer is about, "" without one."""
        return [_head(texts[0]) if texts else "" for texts in self.reasons]

    @cached_property
    def eligible(self) -> npt.NDArray[np.bool_]:
        """Whether each customer (n,) may be contacted: who is not of the control group."""
        control: npt.NDArray[np.bool_] = self.listed["control"].to_numpy(zero_copy_only=False).astype(bool)
        return ~control

    @cached_property
    def segments(self) -> list[Segment]:
        """Segments of every category and yes/no column, and of the risk bands."""
        listed = self.listed
        worth = listed["customer_value"].to_numpy()
        gain = listed["expected_value"].to_numpy() + self.value.offer_cost
        rate = np.divide(gain, worth, out=np.zeros_like(worth), where=worth > 0)
        names = [c.name for c in self.contract.scoring_columns if c.name in self.customers.column_names]
        probability = listed["churn_probability"].to_numpy()
        return by_segment(self.contract, self.customers.select(names), probability, self.bands, Prices(worth, rate))


def read_call_data(sources: Sources) -> CallData | None:
    """The newest list; None before the first. Raises AssetStale for files that cannot be read, BundleError,
    ContractError and PointerCorrupt."""
    settings = sources.settings
    champion = read_champion(settings.home)
    files = (settings.assets_dir / LIST, settings.assets_dir / CUSTOMERS, settings.contract_path)
    if champion is None or not files[0].is_file():
        return None
    stamps = (*map(stamp_of, files), champion.version)
    return sources.made("call data", stamps, lambda: _call_data(sources, champion))


def _call_data(sources: Sources, champion: Champion) -> CallData:
    contract = sources.contract()
    listed = _read(sources.settings.assets_dir / LIST)
    version = str(listed["model_version"][0]) if listed.num_rows else champion.version
    bundle = sources.settings.bundles_dir / version
    value = list_value(bundle, listed)
    if "customer_value" not in listed.column_names:  # a list of an earlier release
        same = pa.repeat(pa.scalar(value.customer_value), listed.num_rows)
        listed = listed.append_column("customer_value", same)
        listed = listed.append_column("control", pa.repeat(pa.scalar(False), listed.num_rows))
    customers = table_rows(_read(sources.settings.assets_dir / CUSTOMERS))
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


def _head(reason: str) -> str:
    """The words before the first number or colon."""
    digit = next((place for place, letter in enumerate(reason) if letter.isdigit() or letter in ":;"), len(reason))
    return reason[:digit].strip() or reason


def _read(path: Path) -> pa.Table:
    try:
        with open_file(path) as file:
            return pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        message = f"{path}: cannot be read ({one_line(error, 120)}), expected an asset of this home"
        raise AssetStale(f"{message}; run `churn run`: it is made again") from error
