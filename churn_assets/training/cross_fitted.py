"""The labelled predictions that a model was trained on, each with its score by models fitted without its customer.

They let the gate use all recent labels: 30 % are set apart, and these are the rest. The rows are stored beside the
bundle, because they belong to one model; a later champion is not compared on rows that it has learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn_assets.contract.model import Contract
from churn_assets.data.customers import AS_OF, ASIDE, FEEDBACK, RECENT_ROWS, SOURCE
from churn_assets.errors import AssetMissing, TrainingError
from churn_assets.scoring.bundle import read_card
from churn_assets.scoring.scorer import Scorer
from churn_assets.storage.files import replacing
from churn_assets.training.candidate import Candidate
from churn_assets.training.feature_table import as_of_of, at_rows
from churn_assets.training.select import chosen_of
from churn_assets.training.split import read_splits

PROBABILITY, RECENT = "challenger_probability", "recent"


def cross_fitted_scores(
    scorer: Scorer,
    bundle: Path,
    customers: pa.Table,
    features: pa.Table,
    splits: pa.Table,
    candidates: Sequence[Candidate],
) -> pa.Table:
    """Rows of labelled predictions with `challenger_probability`, the model's calibration of out-of-fold log-odds, and
    `recent`: the row lies in a recent window. Raises TrainingError if the model is not among the candidates."""
    card = read_card(bundle)
    chosen = chosen_of(card.chosen, card.recent.trained_on if card.recent else "all", candidates, features)
    if chosen is None:
        raise TrainingError(f"'{card.chosen}' is not among the candidates; materialise chosen_model again")
    split, rows = read_splits(splits)["random"], customers.num_rows
    probability = np.full(rows, np.nan)
    probability[split.learn] = scorer.calibration.apply(chosen.fitted["random"].out_of_fold[0])
    feedback = np.flatnonzero(pc.equal(customers[SOURCE], FEEDBACK).to_numpy(zero_copy_only=False))
    tested = np.intersect1d(split.test, feedback)
    if len(tested):  # no model was fitted on them
        as_of = at_rows(as_of_of(customers), tested)
        probability[tested] = scorer.score_table(customers.take(tested), as_of).probability
    used = feedback[np.isfinite(probability[feedback])]
    newest = rows - int((customers.schema.metadata or {}).get(RECENT_ROWS, 0))
    table = customers.take(used).drop_columns([SOURCE, ASIDE]).append_column(PROBABILITY, pa.array(probability[used]))
    return table.append_column(RECENT, pa.array(used >= newest))


def cross_fitted_path(bundle: Path) -> Path:
    """Where the rows of a bundle lie, whether the file exists or not."""
    return bundle.with_name(f"{bundle.name}.cross_fitted.parquet")


def write_cross_fitted(bundle: Path, scores: pa.Table) -> Path:
    """Write the rows beside the bundle, atomically."""
    path = cross_fitted_path(bundle)
    with replacing(path) as temporary:
        pq.write_table(scores, temporary, compression="zstd")
    return path


def read_cross_fitted(bundle: Path) -> pa.Table | None:
    """The rows of a bundle; None if none were written, by an earlier release say. Raises AssetMissing."""
    path = cross_fitted_path(bundle)
    if not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise AssetMissing(
            f"{path}: cannot be read ({error}), expected the cross-fitted scores of model {bundle.name}; make them "
            "again: dagster asset materialize --select cross_fitted_scores -m churn_assets.definitions"
        ) from None


def unseen_by(scores: pa.Table, contract: Contract, seen: pa.Table | None, champion_made_on: str) -> pa.Table:
    """The recent rows of `scores` that a champion has not learned from: `seen` are its own, None if it kept none; then
    a row counts if its label could not be known on `champion_made_on` (ISO day)."""
    rows = scores.filter(scores[RECENT])
    if seen is None:
        days = np.datetime64(champion_made_on or "9999-12-31", "D") - np.timedelta64(contract.label.horizon_days, "D")
        return rows.filter(pc.fill_null(pc.greater(rows[AS_OF], pa.scalar(days.astype(object), pa.date32())), False))
    known = set(zip(*(seen[name].to_pylist() for name in (contract.key.name, AS_OF)), strict=True))
    own = zip(*(rows[name].to_pylist() for name in (contract.key.name, AS_OF)), strict=True)
    return rows.filter(pa.array([pair not in known for pair in own], pa.bool_()))
