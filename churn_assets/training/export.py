"""The bundle of a choice: the scorer, the model card, the golden rows, the reference sample."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Contract
from churn_assets.data.customers import TableOrigin, listed_rows, without_marks
from churn_assets.data.hashing import data_hash
from churn_assets.evaluation.metrics import Floats, shortage_in
from churn_assets.scoring.bundle import write_bundle
from churn_assets.scoring.call_list import call_list, calls_of
from churn_assets.scoring.card import CandidateSummary, Comparison, ProfitReport, Provenance, no_better_than_random
from churn_assets.scoring.explain import background
from churn_assets.scoring.list_money import ListMoney, list_money
from churn_assets.scoring.prices import prices
from churn_assets.scoring.scorer import Bands, Discount, Scorer, Thresholds, feature_ranges
from churn_assets.training.candidate import Candidate
from churn_assets.training.environment import library_versions
from churn_assets.training.feature_table import as_of_of, at_rows
from churn_assets.training.profit import operating_point, profit_report, realized_churn, with_list
from churn_assets.training.select import Choice
from churn_assets.training.split import Index

if TYPE_CHECKING:
    import pyarrow as pa

GOLDEN_ROWS = 64
REFERENCE_ROWS = 10_000


class ChosenModel(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen model and its `bundle`, a path inside the home; its JSON form is the asset `chosen_model`.

    `metrics` are those of `Choice`; the hashes are of the tables it was made of. A field with a default is absent in
    homes of an earlier release.
    """

    version: str
    fingerprint: str = ""
    bundle: str
    name: str = ""
    reason: str = ""
    metrics: dict[str, float]
    comparison: list[Comparison] = []
    thresholds: dict[str, float] = {}
    source: str = ""
    generated: bool
    customers_sha256: str = ""
    splits_sha256: str = ""


def as_scorer(contract: Contract, choice: Choice) -> Scorer:
    """The chosen model with everything it needs to score; it was fitted on the random split's training and
    validation rows."""
    view = choice.views["random"]
    model, train = choice.contender.fitted["random"].model, view.matrix[view.split.learn]
    profit, f1 = choice.thresholds["profit"], choice.thresholds["f1"]
    return Scorer(
        contract=contract,
        program=view.program,
        model=model,
        calibration=choice.calibration.calibration,
        thresholds=Thresholds(choice.thresholds, contract.value.decide_by),
        bands=Bands(min(profit, f1), max(profit, f1)),  # low below both, high above both
        ranges=feature_ranges(view.program.specs, train),
        background=background(model, view.program.specs, train),
        no_signal=no_better_than_random(choice.metrics),
    )


def write_choice(
    contract: Contract,
    choice: Choice,
    candidates: Sequence[Candidate],
    customers: pa.Table,
    root: Path,
    provenance: Provenance,
) -> Path:
    """Write the bundle of `choice` under `root`; returns its directory. The same choice gives the same one."""
    scorer = as_scorer(contract, choice)
    split = choice.views["random"].split
    rows = split.test[_spread(choice.test["random"][1], GOLDEN_ROWS)]
    return write_bundle(
        root,
        scorer,
        card=card(contract, choice, candidates, customers),
        golden=customers.take(rows),
        as_of=at_rows(as_of_of(customers), rows),
        reference=_reference(customers, split.learn, choice.out_of_fold[1], choice.seed),
        provenance=msgspec.to_builtins(provenance),
    )


def card(contract: Contract, choice: Choice, candidates: Sequence[Candidate], customers: pa.Table) -> dict[str, Any]:
    """The training's part of `ModelCard`; the same for two equal trainings, so it holds no times."""
    metadata = customers.schema.metadata
    return {
        "title": contract.title,
        "chosen": choice.name,
        "reason": choice.reason,
        "comparison": choice.comparison,
        "metrics": choice.metrics,
        "calibration": choice.calibration.trials,
        "candidates": {c.name: CandidateSummary(c.params, c.metrics) for c in candidates},
        "profit": _profit(contract, choice, customers),
        "features": list(choice.views["random"].program.names),
        "as_of": metadata[b"churn_as_of"].decode(),
        "source": metadata[b"churn_source"].decode(),
        "rows": customers.num_rows,
        "seed": choice.seed,
        **({"recent": choice.recent} if choice.recent else {}),
        **({"no_signal": True} if no_better_than_random(choice.metrics) else {}),
    }


def mean_gain(contract: Contract, customers: pa.Table) -> float | None:
    """Mean of save rate x value over a customer table; None where the contract has one of each for everybody."""
    if not contract.value.by_customer:
        return None
    return float(prices(contract, customers, as_of_of(customers)).gain.mean())


def _profit(contract: Contract, choice: Choice, customers: pa.Table) -> ProfitReport:
    """Profit on test rows, and the money of the call list that this model makes of the table's customers."""
    value, seed, snapshot = contract.value, choice.seed, TableOrigin.of(customers).as_of
    own = prices(contract, customers, as_of_of(customers))
    tests = {name: (*choice.test[name], own.take(view.split.test)) for name, view in choice.views.items()}
    report = profit_report(*tests["random"][:2], value, choice.thresholds, seed, tests["random"][2])
    newest = None
    if "out_of_time" in tests and not shortage_in(choice.metrics, "oot"):
        churned, probability, later = tests["out_of_time"]
        newest = operating_point(churned, probability, value, choice.thresholds[value.decide_by], seed, later)
    shares = {name: realized_churn(churned, p, value, seed, at) for name, (churned, p, at) in tests.items()}
    realized = {name: share for name, share in shares.items() if share is not None}
    rows = listed_rows(customers)
    active = rows[customers["churned"].to_numpy()[rows] == 0]
    scorer, table = as_scorer(contract, choice), customers.take(active)
    probability, worth = scorer.score_table(table, snapshot).probability, prices(contract, table, snapshot)

    def money(discount: Discount) -> ListMoney:
        discounted = replace(scorer, discount=discount)
        listed = call_list(discounted, table[contract.key.name], probability, snapshot, worth)
        return list_money(calls_of(listed), scorer.value, discount, len(active), len(rows) - len(active))

    return with_list(report, money, realized, newest)


def _spread(probability: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Positions evenly spread over the ranking, so that golden rows cover the range of scores."""
    order = np.argsort(probability, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, count).astype(np.int64))]


def _reference(customers: pa.Table, learn: Index, probability: Floats, seed: int) -> pa.Table:
    """A sample of the rows `learn` (n,) with their out-of-fold `probability` (n,): scores by a model that was trained
    on a row are more extreme than scores of new rows, and would look like drift."""
    import pyarrow as pa

    drawn = np.sort(np.random.default_rng(seed).permutation(len(learn))[:REFERENCE_ROWS])
    metadata = {key: value for key, value in customers.schema.metadata.items() if key != b"churn_generated"}
    # The provenance says whether customers are generated; here it would change the version of bundles made before.
    sample = customers.take(learn[drawn]).replace_schema_metadata(metadata)
    return without_marks(sample).append_column("churn_probability", pa.array(probability[drawn]))


def provenance(
    customers: pa.Table,
    git_commit: str | None,
    dagster_run: str,
    mlflow_run: str | None,
    raw_data: str | None = None,
    validated_data: str | None = None,
) -> Provenance:
    """Data, code, runs and libraries of a training: stored beside the bundle, and no part of its version. The last two
    are versions of kept tables, None where none is kept."""
    origin = TableOrigin.of(customers)
    return Provenance(
        source=origin.source,
        generated=origin.generated,
        as_of=origin.as_of,
        rows=customers.num_rows,
        data_sha256=data_hash(customers),
        raw_data=raw_data,
        validated_data=validated_data,
        git_commit=git_commit,
        dagster_run_id=dagster_run,
        mlflow_run_id=mlflow_run,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        python=sys.version.split()[0],
        libraries=library_versions(),
    )
