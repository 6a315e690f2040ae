"""What of a contract a model may use: the inputs that two models must share to be compared, and to replace one another.

The key names customers, the label says what is predicted, `as_of` from which day ages are counted; then the columns
of a customer, and the expressions of the features among the model's inputs. Excluded ones count as well: their cells
are there, so that a model with them and one without are compared on the same rows. Everything else (limits, value,
prose, rules, how a file is read, what is excluded) may change while a model stays what it is.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from churn_assets.contract.expressions import parse_features
from churn_assets.contract.model import Contract


def model_inputs(contract: Contract) -> Mapping[str, Any]:
    """What the models of a contract use, by a description for people."""
    contract, label = contract.whole, contract.label
    inputs: dict[str, Any] = {
        "the customer id": contract.key.name,
        "the label": [label.column, label.churned_when, list(label.kept_values), label.horizon_days],
        "[time] as_of": contract.time.as_of,
    }
    for column in contract.logged_columns:
        inputs[f"column '{column.name}'"] = [column.kind, column.role, list(column.choices)]
    expressions = {expression.name: expression for expression in parse_features(contract)}
    wanted = [feature.name for feature in contract.features if feature.model]
    while wanted:  # an intermediate feature counts where a model input reads it
        expression = expressions[wanted.pop()]
        inputs[f"feature '{expression.name}'"] = ast.unparse(expression.tree)
        wanted += sorted(expression.names & expressions.keys())
    return inputs


def lineage_of(contract: Contract) -> str:
    """SHA-256 (hex) of `model_inputs`: models of one lineage can be compared on the same rows."""
    return hashlib.sha256(json.dumps(model_inputs(contract), sort_keys=True).encode()).hexdigest()


def unknown_inputs(model: Contract, contract: Contract) -> list[str]:
    """Inputs of a model, by the contract it was trained under, that a contract does not have or defines otherwise. A
    model may use less than the contract allows: columns that its training left out."""
    allowed = model_inputs(contract)
    return [name for name, value in model_inputs(model).items() if allowed.get(name) != value]


def describe_change(before: Contract, after: Contract) -> str:
    """How the model inputs of two contracts differ, as a clause; '' for one lineage."""
    old, new = model_inputs(before), model_inputs(after)
    groups = {
        "without": [name for name in old if name not in new],
        "with": [name for name in new if name not in old],
        "otherwise": [name for name in old if name in new and old[name] != new[name]],
    }
    texts = {name: _listed(names) for name, names in groups.items() if names}
    clauses = [f"{name} {texts[name]}" for name in ("without", "with") if name in texts]
    clauses += [f"{texts['otherwise']} defined otherwise"] if "otherwise" in texts else []
    return ", ".join(clauses)


def _listed(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
