"""Everything the report says, as one JSON value: the pages are made of it and of nothing else.

`metrics.json` is this value, so any number on the page can be looked up there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.errors import TrainingError
from churn_assets.evaluation.metrics import pr_auc
from churn_assets.features.encode import encode_table
from churn_assets.reporting.model.importance import importance
from churn_assets.reporting.model.limits import limits
from churn_assets.reporting.model.measure import (
    FEWEST,
    Scored,
    calibration_noise,
    confusion,
    curves,
    metrics,
    segment,
)
from churn_assets.scoring.calibration import Calibration
from churn_assets.training.candidate import Candidate
from churn_assets.training.feature_table import TrainingData, training_data
from churn_assets.training.select import Contender, check_candidates, contenders, tested

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
PREFIX = {"random": "test", "out_of_time": "oot"}
MISSING = "not known"


@dataclass(frozen=True)
class Sources:
    """What the report is made from. `calibration` is the bundle's; `audit` is `Audit.to_json()` of this
    table or None; `cross_validation` likewise, for a run that made none."""

    contract: Contract
    version: str
    card: Mapping[str, Any]
    provenance: Mapping[str, Any]
    calibration: Calibration
    customers: pa.Table
    features: pa.Table
    splits: pa.Table
    candidates: Sequence[Candidate]
    validation: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    cross_validation: Mapping[str, Any] | None = None


def collect(sources: Sources) -> dict[str, Any]:
    """The facts, JSON throughout and the same for equal sources. Test rows are read, nothing is decided by them.

    Raises TrainingError if the chosen model is not among the candidates, AssetStale if these learnt from
    other features.
    """
    contract, card = sources.contract, sources.card
    data = training_data(contract, sources.features, sources.splits)
    chosen = _chosen(sources)
    threshold = card["thresholds"]["values"][card["thresholds"]["chosen"]]
    sides = {
        PREFIX[name]: Scored.of(*tested(chosen, name, data, sources.calibration), seed=card["seed"])
        for name in data.views
    }
    view = data.views["random"]
    test = view.split.test
    found: dict[str, Any] = {
        "format": FORMAT,
        "model": _model(sources),
        "data": _data(sources, data),
        "threshold": {"value": threshold, "by": card["thresholds"]["chosen"], "all": card["thresholds"]["values"]},
        "value": _value(contract),
        "sides": {name: _side(side, threshold, card, name, contract) for name, side in sides.items()},
        "segments": _segments(contract, sources.customers, data, sides),
        "fewest": FEWEST,
        "importance": importance(
            chosen.models["random"],
            view.program.specs,
            view.matrix[view.split.train],
            view.matrix[test],
            data.churned[test],
            card["seed"],
        ),
        "words": _words(contract),
        "comparison": card["comparison"],
        "calibration": card["calibration"],
        "candidates": card["candidates"],
        "suspects": [
            {"column": c.name, "why": c.suspect, "attested": c.attested} for c in contract.columns if c.suspect
        ],
        "ladder": sources.audit,
        "profit": card.get("profit"),
        "cross_validation": sources.cross_validation or card.get("cross_validation"),
        "validation": sources.validation,
        "provenance": dict(sources.provenance),
    }
    return {**found, "limits": limits(contract, found)}


def _chosen(sources: Sources) -> Contender:
    check_candidates(sources.candidates, sources.features)
    name = sources.card["chosen"]
    for contender in contenders(sources.candidates):
        if contender.name == name:
            return contender
    there = ", ".join(c.name for c in sources.candidates) or "none"
    raise TrainingError(f"the bundle holds '{name}', the candidates are {there}; materialise chosen_model again")


def _model(sources: Sources) -> dict[str, Any]:
    card = sources.card
    wanted = (
        "title",
        "chosen",
        "reason",
        "contract",
        "fingerprint",
        "model_kind",
        "model_cost",
        "bands",
        "seed",
        "features",
    )
    return {**{name: card[name] for name in wanted}, "version": sources.version}


def _data(sources: Sources, data: TrainingData) -> dict[str, Any]:
    said = sources.customers.schema.metadata
    source = said[b"churn_source"].decode()
    label = sources.contract.label
    return {
        "source": source,
        "generated": source.startswith("generated customers"),
        "as_of": said[b"churn_as_of"].decode(),
        "rows": sources.customers.num_rows,
        "churners": int(data.churned.sum()),
        "churn_rate": float(data.churned.mean()),
        "label": {"column": label.column, "meaning": label.meaning, "horizon_days": label.horizon_days},
        "cohort": sources.contract.time.cohort,
        "parts": {
            name: {
                part: {"rows": len(rows), "churn_rate": float(data.churned[rows].mean())}
                for part, rows in vars(view.split).items()
            }
            for name, view in data.views.items()
        },
    }


def _value(contract: Contract) -> dict[str, Any]:
    value = contract.value
    return {
        "customer_value": value.customer_value,
        "offer_cost": value.offer_cost,
        "save_rate": value.save_rate,
        "capacity": value.capacity,
    }


def _side(side: Scored, threshold: float, card: Mapping[str, Any], prefix: str, contract: Contract) -> dict[str, Any]:
    low, high = calibration_noise(side, card["seed"])
    return {
        "rows": len(side.churned),
        "churners": int(side.churned.sum()),
        "metrics": metrics(side, threshold, card["metrics"], prefix),
        "recomputed_pr_auc": pr_auc(side.churned, side.probability),
        "ece_of_perfect": {"low": low, "high": high},
        "confusion": confusion(side, threshold),
        "curves": curves(side, contract.value),
    }


def _segments(
    contract: Contract, customers: pa.Table, data: TrainingData, sides: Mapping[str, Scored]
) -> list[dict[str, Any]]:
    """A row a value of each category and yes/no column, those of one column together, with figures by side."""
    columns = [c for c in contract.scoring_columns if c.kind in (Kind.CATEGORY, Kind.BOOLEAN)]
    encoded = encode_table(contract, customers.select([c.name for c in columns])) if columns else {}
    index = {PREFIX[name]: view.split.test for name, view in data.views.items()}
    found = []
    for column in columns:
        codes, names = _codes(column, encoded[column.name])
        for code, name in enumerate(names):
            figures = {p: segment(side, codes[index[p]] == code) for p, side in sides.items()}
            if any(f["rows"] for f in figures.values()):
                found.append({"column": column.name, "level": name, **figures})
    return found


def _codes(column: Column, values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """(n,) positions in the names that are returned beside them; missing is the last name."""
    names = (*(("no", "yes") if column.kind is Kind.BOOLEAN else column.choices), MISSING)
    codes = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(codes) | (codes < 0), len(names) - 1, codes).astype(np.int64), names


def _words(contract: Contract) -> dict[str, str]:
    """What each feature is, in the contract's words."""
    raw = {c.name: c.doc.rstrip(".") + (f", in {c.unit}" if c.unit else "") for c in contract.columns}
    return {**raw, **{f.name: f.doc.rstrip(".") or f.expression for f in contract.features}}
