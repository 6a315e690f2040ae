"""What a verdict depends on: facts about the challenger, and rows with a label and both models' scores.

There are two kinds of rows, because each is blind to what the other shows: the frozen holdout is clean and old, recent
labels contain what has changed, and what a faulty pipeline has written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.lineage import unknown_inputs
from churn_assets.contract.model import NUMERIC_KINDS, Column, Contract, Kind
from churn_assets.errors import AssetMissing, BundleError, ChurnError, ReleaseError
from churn_assets.promotion.champion import bundle_hash
from churn_assets.promotion.holdout import Holdout, holdout_path, read_holdout
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.records import Challenger
from churn_assets.promotion.registration import TrainedModel, input_change, read_registration_record, unattested
from churn_assets.scoring.bundle import read_contract
from churn_assets.scoring.scorer import Scorer
from churn_assets.settings import Settings
from churn_assets.training.feature_table import as_of_of

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
ScorerLoader = Callable[[Path, Contract], Scorer]

HOLDOUT, RECENT = "the frozen holdout", "recent labels"
NEWEST = 20_000  # recent customers that are compared; older ones say more about the past than about today
BANDS = 3


class GateBlocked(Exception):
    """The gate itself cannot be held, for no fault of the challenger; it stays as it is."""


@dataclass(frozen=True)
class Evidence:
    """`churned` (n,) 0 or 1, calibrated probabilities (n,) of both models, `segments` by name, each (n,) bool;
    `name` is what messages call the rows."""

    name: str
    churned: Labels
    champion: Floats
    challenger: Floats
    segments: Mapping[str, Mask] = field(default_factory=dict)

    @property
    def churners(self) -> int:
        """How many churned."""
        return int(np.sum(self.churned))

    @property
    def fewest(self) -> int:
        """Rows of the rarer class."""
        return min(self.churners, len(self.churned) - self.churners)


@dataclass(frozen=True)
class GateInputs:
    """The facts for one verdict; a problem is a message, None if there is none.

    `champion` and `challenger` are versions. `holdout` and `recent` are None where the models could not be
    scored: they are the same model, the challenger's bundle has a problem, there is no holdout, or the inputs differ as
    `change` says. `registered` is what the challenger was registered with, None where it could not be read. `forbidden`
    are columns that the champion reads although the contract excludes them, or nobody attests them any more; the
    challenger reads none of them.
    """

    contract: Contract
    champion: str
    challenger: str
    bundle: str = ""
    bundle_problem: str | None = None
    registered: TrainedModel | None = None
    registration_problem: str | None = None
    holdout_problem: str | None = None
    frozen_at: datetime | None = None
    holdout: Evidence | None = None
    recent: Evidence | None = None
    change: str = ""
    forbidden: tuple[str, ...] = ()


def load_inputs(
    settings: Settings,
    contract: Contract,
    champion: Champion | None,
    challenger: Challenger,
    labelled: pa.Table | None,
    load_scorer: ScorerLoader,
) -> GateInputs:
    """Everything the gate needs as it stands now; writes nothing.

    `load_scorer` loads a bundle that scores tables of a contract, and raises BundleError for any other. Raises
    GateBlocked if there is no champion to compare with, or its bundle or the holdout is damaged.
    """
    if champion is None:
        raise GateBlocked("this home has no champion to compare with; `churn run` makes one")
    if champion.version == challenger.version:
        return GateInputs(contract, champion.version, challenger.version)
    scorer, bundle_problem = _load_challenger(settings.home / challenger.bundle, contract, challenger, load_scorer)
    holdout, holdout_problem = _load_holdout(settings.holdout_dir, contract)
    trained = read_contract(settings.home / challenger.bundle) or contract
    frozen_before = holdout is not None and holdout.version != challenger.version
    change = input_change(champion, trained, settings.home, contract if frozen_before else None)
    comparable = scorer is not None and not change
    champion_scorer = _load_champion(settings.home, contract, champion, load_scorer) if comparable else None
    registered, registration_problem = _load_registered(settings.home, challenger.version)
    frozen = recent = None
    forbidden: tuple[str, ...] = ()
    if scorer is not None and champion_scorer is not None and holdout is not None:
        frozen, recent = _both_evidences(contract, champion_scorer, scorer, holdout.rows, labelled)
        forbidden = _forbidden(settings.home, contract, champion_scorer, scorer)
    return GateInputs(
        contract=contract,
        champion=champion.version,
        challenger=challenger.version,
        bundle=Path(challenger.bundle).name,
        bundle_problem=bundle_problem,
        registered=registered,
        registration_problem=registration_problem,
        holdout_problem=holdout_problem,
        frozen_at=holdout.frozen_at if holdout is not None else None,
        holdout=frozen,
        recent=recent,
        change=change,
        forbidden=forbidden,
    )


def _forbidden(home: Path, contract: Contract, champion: Scorer, challenger: Scorer) -> tuple[str, ...]:
    """Columns that the champion alone reads, and that no model may read under the contract as it is now."""
    record, _ = _load_registered(home, champion.version)
    refused = {finding.column for finding in unattested(record, contract)} if record else set()
    refused |= {column.name for column in contract.columns if column.excluded}
    reads, challenger_reads = (
        {c.name for c in scorer.contract.scoring_columns if not c.excluded} for scorer in (champion, challenger)
    )
    return tuple(sorted((refused & reads) - challenger_reads)) if not refused & challenger_reads else ()


def _load_challenger(
    path: Path, contract: Contract, challenger: Challenger, load_scorer: ScorerLoader
) -> tuple[Scorer | None, str | None]:
    """Its scorer, or None and the problem."""
    try:
        unchanged = bundle_hash(path) == challenger.bundle_sha256
        scorer = load_scorer(path, contract)
    except (BundleError, OSError) as error:
        return None, str(error)
    if unknown := unknown_inputs(read_contract(path) or contract, contract):
        return None, (
            f"{challenger.version} uses {', '.join(unknown)}, which the contract in use does not have so; train again "
            "under that contract"
        )
    if unchanged:
        return scorer, None
    when = f"{challenger.approved_by} approved" if challenger.status == "approved" else "was registered"
    return None, (
        f"the bundle of {challenger.version} is not the one that {when}, expected manifest "
        f"{challenger.bundle_sha256[:12]}; restore it, or retrain"
    )


def _load_champion(home: Path, contract: Contract, champion: Champion, load_scorer: ScorerLoader) -> Scorer:
    try:
        return load_scorer(champion.path(home), contract)
    except (BundleError, OSError) as error:
        raise GateBlocked(
            f"champion {champion.version} cannot be compared with ({error}); `churn rollback`, or `churn run` for a "
            "first model under the contract as it is"
        ) from error


def _load_registered(home: Path, version: str) -> tuple[TrainedModel | None, str | None]:
    """What the version was registered with, or None and the problem."""
    try:
        return read_registration_record(home, version), None
    except AssetMissing as error:
        return None, str(error)


def _load_holdout(folder: Path, contract: Contract) -> tuple[Holdout | None, str | None]:
    """The frozen holdout, or None and the problem."""
    try:
        holdout = read_holdout(folder, contract)
    except ReleaseError as error:
        raise GateBlocked(str(error)) from error
    if holdout is not None:
        return holdout, None
    return None, (
        f"there is no frozen holdout at {holdout_path(folder, contract)}, expected customers that no "
        "model was trained on; this home had its first champion before they were kept: `churn run --home` another "
        "one, the models made there have them"
    )


def _both_evidences(
    contract: Contract, champion: Scorer, challenger: Scorer, holdout: pa.Table, labelled: pa.Table | None
) -> tuple[Evidence, Evidence]:
    try:
        frozen = holdout_evidence(contract, champion, challenger, holdout)
        return frozen, recent_evidence(contract, champion, challenger, labelled)
    except ChurnError as error:
        raise GateBlocked(str(error)) from error


def holdout_evidence(contract: Contract, champion: Scorer, challenger: Scorer, holdout: pa.Table) -> Evidence:
    """Both models on typed rows with `churned`, each at its day `row_as_of` if there is such a column, else all at
    the snapshot day in the schema's metadata."""
    as_of = _days(holdout["row_as_of"]) if "row_as_of" in holdout.column_names else as_of_of(holdout)
    return _score(HOLDOUT, contract, champion, challenger, holdout, as_of)


def recent_evidence(contract: Contract, champion: Scorer, challenger: Scorer, labelled: pa.Table | None) -> Evidence:
    """Both models on `labelled_predictions`: final labels set apart for the gate, the last prediction of each
    of the newest `NEWEST` customers, each row at its own `as_of`, under this contract's fingerprint."""
    if labelled is None:
        return no_evidence()
    rows = recent_rows(contract, labelled)
    return _score(RECENT, contract, champion, challenger, rows, _days(rows["as_of"]))


def recent_rows(contract: Contract, labelled: pa.Table, newest: int = NEWEST) -> pa.Table:
    """The rows of `labelled_predictions` that are compared, newest first, with the contract's column names."""
    keep = pc.and_(pc.equal(labelled["label_state"], "final"), pc.equal(labelled["part"], "gate"))
    keep = pc.and_(keep, pc.equal(labelled["fingerprint"], contract.fingerprint))
    rows = labelled.filter(pc.and_(keep, pc.is_valid(labelled["churned"])))
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("seq", "descending")]))
    customer = pc.coalesce(rows["customer_id"].cast(pa.string()), rows["prediction_id"].cast(pa.string()))
    _, first = np.unique(customer.to_numpy(zero_copy_only=False).astype(str), return_index=True)
    rows = rows.take(pa.array(np.sort(first)[:newest]))
    names = {f"x_{column.name}": column.name for column in contract.logged_columns}
    return rows.select(["churned", "as_of", *names]).rename_columns(["churned", "as_of", *names.values()])


def no_evidence(name: str = RECENT) -> Evidence:
    """No rows at all."""
    return Evidence(name, np.empty(0, np.int8), np.empty(0), np.empty(0))


def segments_of(contract: Contract, rows: pa.Table) -> dict[str, Mask]:
    """Masks (n,) by name: every choice of a category, both sides of a yes/no, and bands of equal size of every
    number and date; missing values are a segment of their own."""
    segments: dict[str, Mask] = {}
    for column in contract.scoring_columns:
        if column.name in rows.column_names:  # rows frozen before a column came have it not
            segments |= _column_segments(column, rows[column.name])
    return segments


def _column_segments(column: Column, values: pa.ChunkedArray) -> dict[str, Mask]:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    segments = {f"{column.name}: missing": missing} if missing.any() else {}
    if column.kind is Kind.CATEGORY or column.kind is Kind.BOOLEAN:
        segments |= _levels(column.name, values)
    elif column.kind in NUMERIC_KINDS or column.kind is Kind.DATE:
        segments |= _bands(column.name, values, missing)
    return segments


def _score(
    name: str, contract: Contract, champion: Scorer, challenger: Scorer, rows: pa.Table, as_of: float | Floats
) -> Evidence:
    if not rows.num_rows:
        return no_evidence(name)
    churned = rows["churned"].cast(pa.int8()).to_numpy()
    scores = [scorer.score_table(rows, as_of).probability for scorer in (champion, challenger)]
    return Evidence(name, churned, scores[0], scores[1], segments_of(contract, rows))


def _levels(name: str, values: pa.ChunkedArray) -> dict[str, Mask]:
    cells = values.cast(pa.string())
    levels = pc.unique(cells).drop_null().to_pylist()
    return {
        f"{name}: {level}": pc.fill_null(pc.equal(cells, level), False).to_numpy(zero_copy_only=False)
        for level in sorted(levels)
    }


def _bands(name: str, values: pa.ChunkedArray, missing: Mask) -> dict[str, Mask]:
    is_date = pa.types.is_date(values.type)
    numbers = values.cast(pa.int32()).cast(pa.float64()) if is_date else values.cast(pa.float64())
    cells = pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False)
    present = cells[~missing & np.isfinite(cells)]
    if not len(present) or np.min(present) == np.max(present):
        return {}
    bands = {}
    for low, high in itertools.pairwise(_band_edges(present)):
        mask = (cells >= low) & (cells < high)
        if mask.any():
            bounds = [_format(bound, is_date) for bound in (cells[mask].min(), cells[mask].max())]
            bands[f"{name}: {bounds[0]} to {bounds[1]}"] = mask
    return bands


def _band_edges(present: Floats) -> Floats:
    distinct = np.unique(present)
    inner = distinct[1:] if len(distinct) <= BANDS else np.quantile(present, np.arange(1, BANDS) / BANDS)
    return np.unique([distinct[0], *inner, np.inf])


def _format(value: float, is_date: bool) -> str:
    return str(np.datetime64(int(value), "D")) if is_date else f"{value:g}"


def _days(instants: pa.ChunkedArray) -> Floats:
    # Only an unknown date is null; ages counted from it are then missing, as they were in training.
    days = instants.cast(pa.timestamp("us")).cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.float64())
    return np.asarray(days.to_numpy(), dtype=np.float64)
