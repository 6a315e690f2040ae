"""The bundle: everything that turns customers into scores, as files without a pickle among them.

    contract.toml      the contract, as it was written
    model/             model.json with the kind, model.ubj or weights.npz; a blend's members in 0/, 1/
    calibration.json   log-odds to probability
    features.json      fitted, label-free state of the feature program; training ranges; columns that it leaves out
    explain.json       what reasons are relative to: medians and means of training rows
    card.json          the model card: metrics, thresholds, bands
    golden.json        rows, and the probabilities they must reproduce
    reference.parquet  rows that monitoring compares with; scores of those the model was not trained on
    provenance.json    where it came from: run, commit, versions (not part of the version)
    manifest.json      version, contract, and the SHA-256 of every file above

Nothing that differs between two equal trainings (no times) is in a file of the version. Loading hashes every file,
compares the contract's fingerprint and replays the golden rows.

The audit's ladder is computed after the bundle is written: `<version>.ladder.json` stands beside the bundle's folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from churn_assets.contract.check import with_excluded
from churn_assets.contract.load import load_contract, parse_contract
from churn_assets.contract.model import Column, Contract
from churn_assets.errors import BundleCorrupt, BundleError, BundleMismatch, ChurnError, ContractError, RowsRejected
from churn_assets.features.compile import compile_features
from churn_assets.scoring.calibration import calibration_from_json
from churn_assets.scoring.card import LadderFile, ModelCard, Provenance
from churn_assets.scoring.models.base import read_json
from churn_assets.scoring.models.blend import load_model
from churn_assets.scoring.online import CustomerScorer
from churn_assets.scoring.scorer import AsOf, Bands, Discount, Scorer, Thresholds, days
from churn_assets.storage.files import canonical_json, open_file, read_file, read_json_object, write_json
from churn_assets.storage.sealed import PROVENANCE, seal, verify

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

CONTRACT, MODEL, CALIBRATION, FEATURES = "contract.toml", "model", "calibration.json", "features.json"
CARD, GOLDEN, REFERENCE = "card.json", "golden.json", "reference.parquet"
EXPLAIN = "explain.json"

GOLDEN_TOLERANCE = 1e-6
_EXCLUDED = "excluded"  # in FEATURES: columns that the model does not read, whether the contract or the audit says so


def write_bundle(
    root: Path,
    scorer: Scorer,
    *,
    card: Mapping[str, object],
    golden: pa.Table,
    as_of: AsOf,
    reference: pa.Table,
    provenance: Mapping[str, object],
) -> Path:
    """Write `root/<version>` atomically; the same content twice is the same version, and a no-op.

    `golden` are a few typed rows (32 to 256) with their `as_of`; they get the probabilities that `scorer` gives them
    now. Raises BundleCorrupt if the bundle, loaded before it gets its name, would not reproduce them.
    """
    import pyarrow.parquet as pq

    about = {"contract": scorer.contract.name, "fingerprint": scorer.contract.fingerprint}
    excluded = [column.name for column in scorer.contract.columns if column.excluded]
    program = {"names": scorer.program.names, "state": scorer.program.state, "ranges": scorer.ranges}

    def write(directory: Path) -> None:
        (directory / CONTRACT).write_bytes(scorer.contract.text.encode())
        scorer.model.save(directory / MODEL)
        model = {"model_kind": scorer.model.kind, "model_cost": scorer.model.cost}
        contents = {
            CALIBRATION: scorer.calibration,
            FEATURES: {**program, _EXCLUDED: excluded} if excluded else program,
            EXPLAIN: scorer.background,
            CARD: {**card, **about, **model, "thresholds": scorer.thresholds, "bands": scorer.bands},
            GOLDEN: _golden(scorer, golden, as_of),
            PROVENANCE: provenance,
        }
        for name, content in contents.items():
            (directory / name).write_bytes(canonical_json(msgspec.to_builtins(content)))
        pq.write_table(reference, directory / REFERENCE, compression="zstd")

    return seal(root, write, about, _replayed)


def load_bundle(path: Path, contract: Contract | None = None) -> Scorer:
    """The scorer of a bundle that is complete and reproduces its golden rows.

    With the `contract` in use, tables of that contract have every column that the scorer needs, and `[value]` is that
    of the contract in use: money is no part of a model. Raises BundleCorrupt (file, and what differs), or
    BundleMismatch naming the columns that are not as the model needs them.
    """
    scorer = _replayed(path)
    if contract is None:
        return scorer
    if wrong := [column.name for column in scorer.contract.scoring_columns if not _serves(column, contract)]:
        raise BundleMismatch(
            f"{path}: its model needs column '{wrong[0]}' as its own contract '{scorer.contract.name}' has it "
            f"({len(wrong)} such), expected the same name, kind and choices in {contract.where}; train again under the "
            "contract in use, or use the bundle's"
        )
    return replace(scorer, contract=replace(scorer.contract, value=contract.value))


def _serves(wanted: Column, contract: Contract) -> bool:
    """Whether the contract's tables have this column with values that the model knows."""
    column = next((column for column in contract.logged_columns if column.name == wanted.name), None)
    return column is not None and column.kind is wanted.kind and set(column.choices) <= set(wanted.choices)


def contract_in_use(bundle: Path, path: Path, *, is_named: bool = False) -> Contract | None:
    """The contract at `path` if its tables are what the bundle scores, so that its `[value]` holds; None if it is
    another one or cannot be read. For a contract that the user named these are errors: ContractError, BundleMismatch.
    """
    own = read_contract(bundle)
    try:
        contract = load_contract(path)
    except ContractError:
        if is_named:
            raise
        return None
    is_same = own is not None and (own.name, own.key.name) == (contract.name, contract.key.name)
    if own and is_same and all(_serves(column, contract) for column in own.scoring_columns):
        return contract
    if is_named:
        raise BundleMismatch(
            f"{path}: is contract '{contract.name}' with key '{contract.key.name}', expected one whose tables the "
            f"champion scores ('{own.name if own else 'unknown'}'); name that one, or leave --contract out"
        )
    return None


def describe_value_in_use(bundle: Path, contract: Contract | None) -> str:
    """Whose `[value]` money is computed with, where that is not plain; `contract` is that of `contract_in_use`."""
    if contract is None:
        return "Money is by the [value] that the model was trained with; for an edited one: --contract FILE"
    own = read_contract(bundle)
    is_edited = own is not None and own.value != contract.value
    return f"Money is by the [value] of {contract.where}, edited since the model was trained." if is_edited else ""


def read_contract(path: Path) -> Contract | None:
    """The contract that a bundle was made under, with the columns excluded that its model leaves out; None if it cannot
    be read."""
    try:
        return _contract(path)
    except (ContractError, BundleError, OSError):
        return None


def _contract(path: Path) -> Contract:
    contract = parse_contract(read_file(path / CONTRACT).decode(), CONTRACT, path / CONTRACT)
    excluded = read_json(path / FEATURES).get(_EXCLUDED) if (path / FEATURES).exists() else None
    return contract if excluded is None else with_excluded(contract, excluded, CONTRACT)


def read_card(path: Path) -> ModelCard:
    """The model card of a bundle. Raises BundleCorrupt if it cannot be read."""
    return _read_as(path, CARD, ModelCard)


def read_provenance(path: Path) -> Provenance:
    """Where a bundle came from. Raises BundleCorrupt if it cannot be read."""
    return _read_as(path, PROVENANCE, Provenance)


def read_reference(path: Path) -> pa.Table:
    """The rows that monitoring compares with; `churn_probability` is null in the rows the model was trained on."""
    import pyarrow.parquet as pq

    with open_file(path / REFERENCE) as file:
        return pq.ParquetFile(file).read()  # `read_table` would import pandas


def ladder_path(bundle: Path) -> Path:
    """The path of a bundle's ladder, whether the file exists or not."""
    return bundle.with_name(f"{bundle.name}.ladder.json")


def write_ladder(bundle: Path, version: str, ladder: Mapping[str, Any]) -> Path:
    """Write the ladder of the bundle `version` beside it, atomically; an older one is replaced."""
    return write_json(ladder_path(bundle), {"version": version, **ladder})


def read_ladder(bundle: Path, version: str) -> LadderFile | None:
    """The ladder beside a bundle, None if there is none that was computed for this version. It explains a model and
    decides nothing, so a damaged file is no reason to refuse the bundle."""
    try:
        stored = read_json_object(ladder_path(bundle))
        return msgspec.convert(stored, LadderFile) if stored.get("version") == version else None
    except (OSError, ValueError):
        return None


def _replayed(path: Path) -> Scorer:
    manifest = verify(path)
    try:
        scorer = _assemble(path, manifest)
        _replay(path, scorer)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BundleCorrupt(
            f"{path}: cannot be loaded ({reason}), expected the files of this version; was it made by another version?"
        ) from error
    return scorer


def _assemble(path: Path, manifest: Mapping[str, Any]) -> Scorer:
    contract = _contract(path)
    if contract.fingerprint != manifest["fingerprint"]:
        raise BundleMismatch(
            f"{path}: made under fingerprint {str(manifest['fingerprint'])[:12]}, its contract now reads as "
            f"{contract.fingerprint[:12]}; train again with this version"
        )
    features, card = read_json(path / FEATURES), read_json(path / CARD)
    program = compile_features(contract).with_state(features["state"])
    if list(program.names) != features["names"]:
        raise BundleCorrupt(f"{path / FEATURES}: not the features of its contract; train again with this version")
    return Scorer(
        contract=contract,
        program=program,
        model=load_model(path / MODEL),
        calibration=calibration_from_json(read_json(path / CALIBRATION)),
        thresholds=Thresholds(**card["thresholds"]),
        bands=Bands(**card["bands"]),
        version=str(manifest["version"]),
        ranges={name: (low, high) for name, (low, high) in features["ranges"].items()},
        background=read_json(path / EXPLAIN) if (path / EXPLAIN).exists() else {},  # an older bundle has none
        no_signal=bool(card.get("no_signal", False)),
        discount=Discount(**(card.get("profit") or {}).get("discount", {})),
    )


def _golden(scorer: Scorer, table: pa.Table, as_of: AsOf) -> dict[str, object]:
    wanted = [column.name for column in scorer.contract.kept_columns if column.name in table.schema.names]
    instant = days(as_of)
    return {
        "as_of_days": instant if isinstance(instant, float) else instant.tolist(),
        "rows": table.select(wanted).to_pylist(),
        "probability": scorer.score_table(table, as_of).probability.tolist(),
    }


def _replay(path: Path, scorer: Scorer) -> None:
    """Golden rows together, and each alone as the service scores it. Raises BundleCorrupt if a score differs."""
    golden = read_json(path / GOLDEN)
    instant, rows = golden["as_of_days"], golden["rows"]
    if not rows:
        raise BundleCorrupt(f"{path / GOLDEN}: has no rows, expected at least 1 to compare scores with; train again")
    at = np.broadcast_to(np.asarray(instant, dtype=np.float64), (len(rows),))
    expected = np.array(golden["probability"], dtype=np.float64)
    try:
        together = scorer.score_rows(rows, at).probability
        customers = CustomerScorer(scorer)
        alone = np.array([_score_alone(customers, row, day) for row, day in zip(rows, at.tolist(), strict=True)])
    except RowsRejected as error:
        raise BundleCorrupt(f"{path / GOLDEN}: {error}; the golden rows break their own contract") from error
    except ChurnError as error:
        raise BundleCorrupt(f"{path / GOLDEN}: cannot be replayed: {error}") from error
    for probability, how in ((together, ""), (np.where(np.isnan(alone), together, alone), " alone")):
        wrong = np.flatnonzero(~(np.abs(probability - expected) <= GOLDEN_TOLERANCE))  # NaN is never the same
        if len(wrong):
            row = int(wrong[0])
            raise BundleCorrupt(
                f"{path / GOLDEN}: row {row} scores {probability[row]:.9f}{how}, expected {expected[row]:.9f} within "
                f"{GOLDEN_TOLERANCE:g}; features or model compute otherwise here, train again"
            )


def _score_alone(customers: CustomerScorer, row: Mapping[str, Any], as_of: float) -> float:
    """The probability of one golden row; NaN if a rule refuses it, which its table was not held to."""
    try:
        return customers.score(row, as_of).probability
    except RowsRejected:
        return math.nan


def _read_as(path: Path, name: str, form: type[T]) -> T:
    try:
        return msgspec.convert(read_json(path / name), form)
    except msgspec.ValidationError as error:
        raise BundleCorrupt(
            f"{path / name}: {error}, expected the form of this version; make the bundle again"
        ) from error
