"""Column schema and column lineage of the table assets, derived from the contract."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg

from churn_assets.contract.expressions import columns_read
from churn_assets.contract.model import Column, Contract, Kind, Role

RAW = dg.AssetKey("raw_customers")
VALIDATED = dg.AssetKey("validated_customers")

_TYPES: Mapping[Kind, str] = {
    Kind.ID: "string",
    Kind.TEXT: "string",
    Kind.NUMBER: "double",
    Kind.INTEGER: "int64",
    Kind.BOOLEAN: "bool",
    Kind.DATE: "date32",
    Kind.CATEGORY: "string",
}

_AS_READ = "as read"  # the type in the source, before repairs

Table = tuple[list[dg.TableColumn], dict[str, list[dg.TableColumnDep]]]


def with_column_schema(contract: Contract) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """A function that adds column schema and lineage to the spec of each table asset."""

    def add(spec: dg.AssetSpec) -> dg.AssetSpec:
        describe = _TABLES.get(spec.key.to_user_string())
        if describe is None:
            return spec
        columns, deps = describe(contract)
        metadata: dict[str, Any] = {"dagster/column_schema": dg.TableSchema(columns=columns)}
        if deps:
            metadata["dagster/column_lineage"] = dg.TableColumnLineage(deps)
        return spec.merge_attributes(metadata=metadata)

    return add


def lineage(contract: Contract, asset: str) -> dg.TableColumnLineage:
    """The source columns of each column of a table asset, for the metadata of its materializations."""
    return dg.TableColumnLineage(_TABLES[asset](contract)[1])


def _columns(descriptions: Mapping[str, tuple[str, str]]) -> list[dg.TableColumn]:
    """Columns from name -> type and description."""
    return [dg.TableColumn(name, kind, text) for name, (kind, text) in descriptions.items()]


def _raw(contract: Contract) -> Table:
    return [dg.TableColumn(c.name, _AS_READ, c.doc) for c in contract.columns], {}


def _validated(contract: Contract) -> Table:
    label = dg.TableColumn(
        "churned", "int8", f"1: churned, 0: kept. {contract.label.meaning}", dg.TableColumnConstraints(nullable=False)
    )
    deps = {c.name: [dg.TableColumnDep(RAW, c.name)] for c in contract.kept_columns}
    deps["churned"] = [dg.TableColumnDep(RAW, contract.label.column)]
    marks = {
        "row_source": ("string", "table, or feedback for a prediction whose label is final."),
        "row_as_of": ("date32", "The day the row describes; ages are counted from it."),
        "row_aside": ("bool", "True: never trained on, the gate compares models on this customer."),
    }
    return [*map(_typed, contract.kept_columns), label, *_columns(marks)], deps


def _rejected(contract: Contract) -> Table:
    columns = [dg.TableColumn(c.name, _AS_READ, c.doc) for c in contract.columns if c.role is not Role.IGNORE]
    row = dg.TableColumn("source_row", "int64", "Row of the source, from 0.")
    reasons = {
        "reasons": ("list<string>", "Codes of every rule the row breaks."),
        "detail": ("string", "For each reason: the value and what was expected."),
    }
    return [row, *columns, *_columns(reasons)], {c.name: [dg.TableColumnDep(RAW, c.name)] for c in columns}


def _features(contract: Contract) -> Table:
    computed, reads = [f for f in contract.features if f.model], columns_read(contract)
    deps = {"customer_id": _from_validated([contract.key.name]), "churned": _from_validated(["churned"])}
    deps |= {c.name: _from_validated([c.name]) for c in contract.feature_columns}
    deps |= {f.name: _from_validated(sorted(reads[f.name])) for f in computed}
    columns = _columns({"customer_id": ("string", "The contract's key."), "churned": ("int8", "1: churned, 0: kept.")})
    columns += map(_typed, contract.feature_columns)
    return columns + _columns({f.name: ("float", f"{f.doc} = {f.expression}") for f in computed}), deps


def _splits(contract: Contract) -> Table:
    parts, key = "train, validation or test", contract.key.name
    columns = {
        "customer_id": ("string", "The contract's key."),
        "random": ("string", f"Stratified at random: {parts}."),
        "out_of_time": ("string", f"By the cohort, oldest first: {parts}; null without a cohort."),
    }
    by_time = [contract.time.cohort] if contract.time.cohort else []
    reads = {"customer_id": [key], "random": [key, "churned"], "out_of_time": [key, *by_time]}
    return _columns(columns), {name: _from_validated(read) for name, read in reads.items()}


def _risk_list(contract: Contract) -> Table:
    docs = {
        "rank": "1 is called first.",
        "customer_id": "The contract's key.",
        "churn_probability": "Calibrated, 0 to 1.",
        "risk_band": "low, medium or high.",
        "customer_value": "What the customer is worth if they stay, by [value] of the contract.",
        "expected_value": "churn_probability x discount x save_rate x customer_value - offer_cost.",
        "contact": "Whether the customer is within the capacity and worth the offer, and not in the control group.",
        "control": "Whether the customer's id is drawn for the control group.",
        "as_of": "The day the customer's data describes.",
        "model_version": "The bundle that scored.",
        "contract": "The contract's name.",
        **{f"reason_{n}": "A column that raises the score, with its value; the strongest first." for n in (1, 2, 3)},
    }
    scored_from = _from_validated([c.name for c in contract.scoring_columns])
    deps = dict.fromkeys(docs, scored_from)
    deps["customer_id"] = _from_validated([contract.key.name])
    return [dg.TableColumn(name, description=doc) for name, doc in docs.items()], deps


def _labelled(contract: Contract) -> Table:
    horizon = contract.label.horizon_days
    fields = {
        "seq": ("int64", "Position in the ingested log."),
        "prediction_id": ("string", "The prediction."),
        "customer_id": ("string", "The contract's key; null if the request named none."),
        "as_of": ("timestamp", "The instant the customer's data describes, UTC."),
        "scored_at": ("timestamp", "UTC."),
        "matures_at": ("timestamp", f"as_of + {horizon} days, or those of its own contract: no label is final before."),
        "score": ("double", "Calibrated, 0 to 1."),
        "model_version": ("string", "The bundle that scored."),
        "fingerprint": ("string", "The contract the row was scored under."),
        "arm": ("string", "How the model was chosen for the request."),
        "label_state": ("string", "final, open, early, late or conflicting."),
        "churned": ("bool", f"Null unless final. {contract.label.meaning}"),
        "censored": (
            "bool",
            "Whether the label is drawn: the churn lies between two censuses, one of them within the days.",
        ),
        "contacted": ("bool", "Whether a report or a contact says that the customer was contacted; null if none says."),
        "control": ("bool", "Whether the customer was left alone for comparison within the days of the prediction."),
        "observed_at": ("timestamp", "Date of the report that made the label, else of the last one, UTC."),
        "received_at": ("timestamp", "When that report was received, UTC."),
        "part": ("string", "train or gate, by the customer's id; it never changes."),
    }
    inputs = [dg.TableColumn(f"x_{c.name}", _typed(c).type, _typed(c).description) for c in contract.scoring_columns]
    return [*_columns(fields), *inputs], {}


def _from_validated(columns: Iterable[str]) -> list[dg.TableColumnDep]:
    return [dg.TableColumnDep(VALIDATED, name) for name in columns]


def _typed(column: Column) -> dg.TableColumn:
    limits = [] if column.low is None else [f"at least {column.low}"]
    limits += [] if column.high is None else [f"at most {column.high}"]
    limits += [f"one of {', '.join(column.choices)}"] if column.choices else []
    doc = " ".join(filter(None, [column.doc, column.unit and f"({column.unit})"]))
    constraints = dg.TableColumnConstraints(nullable=column.nullable, other=limits)
    tags = {"suspect": ""} if column.suspect else {}
    return dg.TableColumn(column.name, _TYPES[column.kind], doc, constraints, tags)


_TABLES: Mapping[str, Callable[[Contract], Table]] = {
    "raw_customers": _raw,
    "validated_customers": _validated,
    "rejected_customers": _rejected,
    "customer_features": _features,
    "splits": _splits,
    "risk_list": _risk_list,
    "labelled_predictions": _labelled,
}
