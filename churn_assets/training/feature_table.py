"""The feature table: the input of the candidates, which a person can open and read.

Statistics that a feature learns (`typical`) come from a split's training rows alone, so such a feature is in the table
twice, the second time as `<name>__out_of_time`.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.contract.check import with_excluded
from churn_assets.contract.expressions import FITTED, parse_features
from churn_assets.contract.model import Contract
from churn_assets.data.customers import AS_OF, RECENT_ROWS
from churn_assets.data.hashing import data_hash
from churn_assets.errors import AssetStale
from churn_assets.evaluation.metrics import Floats
from churn_assets.features.compile import FeatureProgram, Matrix, as_of_days, compile_features
from churn_assets.features.encode import Columns, encode_table
from churn_assets.training.split import Index, Split, read_splits

if TYPE_CHECKING:
    import pyarrow as pa

STATE_KEY = b"churn_feature_state"
CUSTOMERS_KEY, SPLITS_KEY = b"churn_customers_sha256", b"churn_splits_sha256"
LEFT_OUT_KEY = b"churn_left_out"
LATER = "__out_of_time"
_HEAD = ("customer_id", "churned")


@dataclass(frozen=True)
class View:
    """One split's data: matrix float32 (rows, features), the split, and the fitted program."""

    matrix: Matrix
    split: Split
    program: FeatureProgram


@dataclass(frozen=True)
class TrainingData:
    """Labels int8 (rows,), ids, and a View a split; `out_of_time` is absent without a cohort."""

    churned: npt.NDArray[np.int8]
    views: dict[str, View]


def as_of_of(customers: pa.Table) -> float | Floats:
    """The day each row was true, in days since 1970-01-01: one, or (rows,) where they differ. An unmarked table is as
    of the snapshot that validation wrote into its metadata."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if AS_OF in customers.column_names:
        days = pc.fill_null(customers[AS_OF].cast(pa.int32()).cast(pa.float64()), float("nan")).to_numpy()
        return float(days[0]) if len(days) and (days == days[0]).all() else np.asarray(days, dtype=np.float64)
    return as_of_days(customers.schema.metadata[b"churn_as_of"].decode())


def at_rows(as_of: float | Floats, rows: Index) -> float | Floats:
    """`as_of` of some of the rows."""
    return as_of[rows] if isinstance(as_of, np.ndarray) else as_of


def take_rows(columns: Columns, rows: Index) -> Columns:
    """Some rows of encoded columns."""
    return {name: values[rows] for name, values in columns.items()}


def trained_contract(contract: Contract, features: pa.Table) -> Contract:
    """The contract with the columns excluded that a feature table leaves out, beside those that the contract excludes:
    what is trained on the table reads no other."""
    names = json.loads((features.schema.metadata or {}).get(LEFT_OUT_KEY, b"[]"))
    return with_excluded(contract, {*names, *(c.name for c in contract.columns if c.excluded)}) if names else contract


def feature_table(
    contract: Contract, customers: pa.Table, splits: pa.Table, left_out: Collection[str] = ()
) -> pa.Table:
    """Every feature of every validated customer, under the statistics of each split's training rows; without those that
    read a column of `left_out`. Raises AssetStale if the splits are of other customers."""
    import pyarrow as pa

    noted = {LEFT_OUT_KEY: json.dumps(sorted(left_out)).encode()} if left_out else {}
    contract = with_excluded(contract, {*left_out, *(c.name for c in contract.columns if c.excluded)})
    if not customers.column(contract.key.name).equals(splits.column("customer_id")):
        raise AssetStale("splits was made from other customers, expected those of validated_customers; run: churn run")
    columns, as_of = encode_table(contract, customers), as_of_of(customers)
    data: dict[str, pa.Array | pa.ChunkedArray]
    data = {"customer_id": customers.column(contract.key.name), "churned": customers.column("churned")}
    states, fitted = {}, _fitted_features(contract)
    for name, split in read_splits(splits).items():
        program = compile_features(contract).fit(take_rows(columns, split.train), at_rows(as_of, split.train))
        states[name] = program.state
        matrix = program(columns, as_of)
        for index, spec in enumerate(program.specs):
            if name == "random" or spec.name in fitted:
                data[spec.name + (LATER if name != "random" else "")] = _as_arrow(matrix[:, index], spec.choices)
    origin = {CUSTOMERS_KEY: data_hash(customers).encode(), SPLITS_KEY: data_hash(splits).encode()}
    metadata = {**(customers.schema.metadata or {}), **origin, **noted, STATE_KEY: json.dumps(states).encode()}
    return pa.table(data).replace_schema_metadata(metadata)


def training_data(contract: Contract, features: pa.Table, splits: pa.Table) -> TrainingData:
    """Matrices, labels and programs back from a feature table; exactly what `feature_table` computed. Raises AssetStale
    if the features were made with other splits: their statistics would leak; or if the contract has other inputs."""
    check_origin(features, SPLITS_KEY, splits, "splits")
    states, views = json.loads(features.schema.metadata[STATE_KEY]), {}
    base = compile_features(trained_contract(contract, features))
    made = [name for name in features.column_names if name not in _HEAD and not name.endswith(LATER)]
    if set(made) != set(base.names):
        raise AssetStale(
            "customer_features was made for other model inputs than the contract has now (a column was attested or "
            "excluded since), expected the same; run: churn run"
        )
    for name, split in read_splits(splits).items():
        program = base.with_state(states[name])
        matrix = np.empty((features.num_rows, len(program.specs)), dtype=np.float32)
        for index, spec in enumerate(program.specs):
            later = spec.name + LATER
            use = later if name != "random" and later in features.column_names else spec.name
            matrix[:, index] = _as_numpy(features.column(use), spec.choices)
        views[name] = View(matrix, split, program)
    return TrainingData(features.column("churned").to_numpy().astype(np.int8), views)


def check_origin(features: pa.Table, key: bytes, table: pa.Table, name: str) -> None:
    """Raise AssetStale unless the feature table was made of this `table`, by its contents."""
    if features.schema.metadata.get(key, b"").decode() != data_hash(table):
        raise AssetStale(
            f"customer_features was made from another version of {name}, expected the current one; run: churn run"
        )


def table_size(features: pa.Table) -> int:
    """Customers of the table that a call list is made from; rows of labelled predictions do not count."""
    return int((features.schema.metadata or {}).get(b"churn_table_rows", features.num_rows))


def feedback_size(features: pa.Table) -> int:
    """Rows of labelled predictions among the training rows."""
    return int((features.schema.metadata or {}).get(b"churn_feedback_rows", 0))


def recent_size(features: pa.Table) -> int:
    """Rows of labelled predictions of recent windows: the last ones of the table."""
    return int((features.schema.metadata or {}).get(RECENT_ROWS, 0))


def features_hash(features: pa.Table) -> str:
    """Hash of a model's training input: the features, and the splits they were made with."""
    splits = features.schema.metadata.get(SPLITS_KEY, b"")
    return hashlib.sha256(data_hash(features).encode() + splits).hexdigest()


def _fitted_features(contract: Contract) -> set[str]:
    names: set[str] = set()
    for expression in parse_features(contract):
        calls = {ast.unparse(node.func) for node in ast.walk(expression.tree) if isinstance(node, ast.Call)}
        if calls & set(FITTED) or expression.names & names:
            names.add(expression.name)
    return names


def _as_arrow(values: npt.NDArray[np.float32], choices: tuple[str, ...]) -> pa.Array:
    import pyarrow as pa

    missing = np.isnan(values)
    if not choices:
        return pa.array(values, mask=missing)
    codes = np.where(missing, 0, values).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=missing), pa.array(choices))


def _as_numpy(column: pa.ChunkedArray, choices: tuple[str, ...]) -> npt.NDArray[np.float32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if choices:
        column = pc.index_in(column.cast(pa.string()), value_set=pa.array(choices))
    values = pc.fill_null(column.cast(pa.float32()), float("nan")).to_numpy()
    return np.asarray(values, dtype=np.float32)


def infinite_columns(features: pa.Table) -> list[str]:
    """Names of columns that hold an infinite number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = [n for n in features.column_names if pa.types.is_floating(features.schema.field(n).type)]
    return [n for n in numbers if pc.any(pc.is_inf(features[n])).as_py()]


def constant_columns(features: pa.Table) -> list[str]:
    """Names of features with a single value; missing counts as one."""
    names = [n for n in features.column_names if n not in _HEAD]
    return [n for n in names if len(features[n].unique()) < 2]
