"""Columns with the features that read them, and the columns that describe the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from churn_assets.contract.expressions import columns_read
from churn_assets.contract.model import Contract, Kind
from churn_assets.features.compile import FeatureSpec


def features_of(contract: Contract, specs: Sequence[FeatureSpec]) -> Mapping[str, tuple[int, ...]]:
    """For each column the positions in the matrix of itself and of every feature that reads it."""
    reads = columns_read(contract)
    return {
        column.name: tuple(
            index
            for index, spec in enumerate(specs)
            if spec.name == column.name or column.name in reads.get(spec.name, ())
        )
        for column in contract.scoring_columns
    }


def own_features(contract: Contract, specs: Sequence[FeatureSpec]) -> Mapping[str, tuple[int, ...]]:
    """For each column the positions of itself and of features that read nothing else."""
    reads = columns_read(contract)
    return {
        column.name: tuple(
            index
            for index, spec in enumerate(specs)
            if spec.name == column.name or reads.get(spec.name) == frozenset({column.name})
        )
        for column in contract.scoring_columns
    }


def companions(contract: Contract, name: str) -> tuple[str, ...]:
    """Columns that some feature reads together with `name`, clocks (dates and the cohort) aside.

    They describe the same thing: without the count of e-mails sent, the share of opened e-mails still shows who
    was sent any.
    """
    clocks = {column.name for column in contract.scoring_columns if column.kind is Kind.DATE} | {contract.time.cohort}
    names = {other for read in columns_read(contract).values() if name in read for other in read} - clocks - {name}
    return tuple(column.name for column in contract.scoring_columns if column.name in names)
