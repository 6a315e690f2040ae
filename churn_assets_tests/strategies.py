"""From a contract to data that keeps it: rows as JSON has them, columns as the programs take them."""

import datetime as dt
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.contract.values import canonical_id
from churn_assets.features.encode import Columns, days_since_epoch

ROOT = Path(__file__).resolve().parent.parent
STORE = load_contract(ROOT / "contracts" / "store.toml")
TELECOM = load_contract(ROOT / "contracts" / "telecom.toml")
CONTRACTS = (STORE, TELECOM)

AS_OF = dt.date(2014, 1, 20)
AS_OF_DAYS = float(days_since_epoch(AS_OF))

Row = dict[str, object]

_DAYS = (dt.date(1990, 1, 1), dt.date(2030, 12, 31))


def cells(column: Column) -> st.SearchStrategy[object]:
    """JSON-like values that `column` allows: its bounds often, null where it may be."""
    found = _values(column)
    return st.none() | found if column.nullable else found


def _values(column: Column) -> st.SearchStrategy[object]:
    match column.kind:
        case Kind.ID | Kind.TEXT:
            letters = st.characters(codec="utf-8", exclude_categories=["Cs"])
            fits = _is_canonical if column.kind is Kind.ID else str.strip
            return st.text(letters, min_size=1, max_size=12).filter(fits)
        case Kind.NUMBER:
            low, high = _bounds(column, -1e12, 1e12)
            return st.sampled_from([low, high]) | st.floats(low, high) | st.integers(math.ceil(low), math.floor(high))
        case Kind.INTEGER:
            low, high = _bounds(column, -(2**40), 2**40)
            return st.sampled_from([int(low), int(high)]) | st.integers(math.ceil(low), math.floor(high))
        case Kind.BOOLEAN:
            return st.booleans() | st.sampled_from([0, 1])
        case Kind.DATE:
            first = dt.date.fromisoformat(str(column.low)) if column.low is not None else _DAYS[0]
            last = dt.date.fromisoformat(str(column.high)) if column.high is not None else _DAYS[1]
            return st.sampled_from([first, last]).map(dt.date.isoformat) | st.dates(first, last).map(dt.date.isoformat)
        case Kind.CATEGORY:
            return st.sampled_from(column.choices)
    raise AssertionError(f"no values for kind {column.kind}: teach this module")


def _is_canonical(text: str) -> bool:
    return canonical_id(text) == text


def _bounds(column: Column, low: float, high: float) -> tuple[float, float]:
    assert not isinstance(column.low, str)
    assert not isinstance(column.high, str)
    low = low if column.low is None else column.low
    return low, max(low, high) if column.high is None else column.high


def rows(contract: Contract, *roles: Role) -> st.SearchStrategy[Row]:
    """One row that keeps the contract, with the columns of `roles` (default: key, inputs, features)."""
    wanted = roles or (Role.KEY, Role.FEATURE, Role.INPUT)
    return st.fixed_dictionaries({c.name: cells(c) for c in contract.columns if c.role in wanted})


def tables(contract: Contract, min_size: int = 1, max_size: int = 12) -> st.SearchStrategy[list[Row]]:
    """Several such rows."""
    return st.lists(rows(contract), min_size=min_size, max_size=max_size)


def columns(contract: Contract, n: int) -> st.SearchStrategy[Columns]:
    """Columns of `n` rows, made by NumPy from a drawn seed: for sizes that lists of draws cannot reach."""
    return st.integers(0, 2**32 - 1).map(lambda seed: make_columns(contract, n, seed))


def make_columns(contract: Contract, n: int, seed: int) -> Columns:
    """`n` rows that keep the contract, a third of them on a bound, a tenth null where null is allowed."""
    rng = np.random.default_rng(seed)
    return {column.name: _make(column, n, rng) for column in contract.kept_columns}


def _make(column: Column, n: int, rng: np.random.Generator) -> np.ndarray:
    missing = (rng.random(n) < 0.1) & column.nullable
    match column.kind:
        case Kind.ID | Kind.TEXT:
            names = [None if m else f"c{i}" for i, m in enumerate(missing)]
            return np.array(names, dtype=object)
        case Kind.CATEGORY:
            return np.where(missing, -1, rng.integers(0, len(column.choices), n)).astype(np.int32)
        case Kind.BOOLEAN:
            values = rng.integers(0, 2, n).astype(float)
        case Kind.DATE:
            first = dt.date.fromisoformat(str(column.low)) if column.low is not None else _DAYS[0]
            last = dt.date.fromisoformat(str(column.high)) if column.high is not None else AS_OF
            values = rng.integers(days_since_epoch(first), days_since_epoch(last) + 1, n).astype(float)
        case _:
            low, high = _bounds(column, -1e6, 1e6)
            values = rng.uniform(low, high, n)
            values = np.where(rng.random(n) < 1 / 3, rng.choice([low, high], n), values)
            values = np.floor(values) if column.kind is Kind.INTEGER else values
    return np.where(missing, np.nan, values)


def typed_table(contract: Contract, many: Sequence[Row]) -> pa.Table:
    """The rows as validation leaves them, without the label."""
    arrays = {}
    for column in contract.kept_columns:
        found = [row[column.name] for row in many]
        match column.kind:
            case Kind.NUMBER:
                arrays[column.name] = pa.array([None if v is None else float(v) for v in found], pa.float64())  # type: ignore[arg-type]
            case Kind.INTEGER:
                arrays[column.name] = pa.array(found, pa.int64())
            case Kind.BOOLEAN:
                arrays[column.name] = pa.array([None if v is None else bool(v) for v in found], pa.bool_())
            case Kind.DATE:
                days = [None if v is None else dt.date.fromisoformat(str(v)) for v in found]
                arrays[column.name] = pa.array(days, pa.date32())
            case _:
                arrays[column.name] = pa.array(found, pa.string())
    return pa.table(arrays)
