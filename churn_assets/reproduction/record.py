"""What a model was trained from: `<version>.training.json`, beside its bundle's folder.

A bundle that a second training gives again keeps its files, so the record stands beside it, as the audit's ladder does:
it is of the training that gave this version last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract
from churn_assets.errors import TableNotKept, one_line
from churn_assets.scoring.bundle import CONTRACT
from churn_assets.storage.files import read_json_object, write_json
from churn_assets.training.candidate import Candidate
from churn_assets.training.environment import Environment

_SUFFIX = ".training.json"


class Tables(msgspec.Struct, frozen=True):
    """Versions of the kept tables: the raw one (None if it was not kept), the validated one with labelled predictions
    as far as there are any, and the splits."""

    raw: str | None
    validated: str
    splits: str


class TrainingRecord(msgspec.Struct, frozen=True):
    """Everything that a training is made from. `parameters` and `seeds` are those of each candidate; `contract` is the
    text in use; `git_commit` is that of the working tree, 'unknown' outside of one; `run` is Dagster's."""

    version: str
    trained_at: str
    tables: Tables
    contract: str
    parameters: dict[str, dict[str, int | float]]
    seeds: dict[str, int]
    environment: Environment
    git_commit: str
    run: str

    def parsed_contract(self) -> Contract:
        """The contract of the training. Raises ContractError if this release reads it otherwise."""
        return parse_contract(self.contract, CONTRACT)


def candidate_facts(candidates: Sequence[Candidate]) -> tuple[dict[str, dict[str, int | float]], dict[str, int]]:
    """Parameters and seeds by candidate, as a record has them."""
    return {c.name: c.params for c in candidates}, {c.name: c.seed for c in candidates}


def record_path(bundle: Path) -> Path:
    """The path of a bundle's record, whether the file exists or not."""
    return bundle.with_name(f"{bundle.name}{_SUFFIX}")


def write_record(bundle: Path, record: TrainingRecord) -> Path:
    """Write the record of a bundle beside it, atomically."""
    return write_json(record_path(bundle), msgspec.to_builtins(record))


def read_records(bundles: Path) -> dict[str, TrainingRecord]:
    """The records of a home's bundles by version; one that cannot be read is left out."""
    records = {}
    for path in sorted(bundles.glob(f"*{_SUFFIX}")):
        try:
            record = msgspec.convert(read_json_object(path), TrainingRecord)
        except (OSError, ValueError):
            continue
        records[record.version] = record
    return records


def read_record(bundles: Path, text: str) -> TrainingRecord:
    """The record of the model whose version begins with `text`. Raises TableNotKept if there is none, or several."""
    paths = sorted(path for path in bundles.glob(f"*{_SUFFIX}") if text and path.name.startswith(text))
    if len(paths) != 1:
        is_there = any(path.name.startswith(text) for path in bundles.glob("*") if path.is_dir()) and bool(text)
        problem = "begins several versions" if paths else "has no record of its training"
        remedy = (
            "it was trained by an earlier release, in another home, or while CHURN_DATA_VERSIONS was 0: train it anew, "
            "`churn run`"
            if is_there and not paths
            else "`churn history` and `churn data log` list models; name one of them"
        )
        raise TableNotKept(f"model {text[:40]} {problem} in {bundles}, expected a file <version>{_SUFFIX}; {remedy}")
    try:
        return msgspec.convert(read_json_object(paths[0]), TrainingRecord)
    except (OSError, ValueError) as error:
        raise TableNotKept(
            f"{paths[0]}: cannot be read ({one_line(error, 120)}), expected the record of a training; restore it, or "
            "train anew: churn run"
        ) from None
