"""What a bundle says about its model: the card, which is part of the version, and where the bundle came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from churn_assets.scoring.list_money import ListMoney
from churn_assets.scoring.scorer import Bands, Discount, Thresholds


class Trial(msgspec.Struct, frozen=True):
    """Out-of-fold figures of one kind of calibration on validation rows."""

    log_loss: float
    pr_auc: float


class CalibrationTrials(msgspec.Struct, frozen=True):
    """The kind that was kept, why (a clause), and what every kind reached."""

    kind: str
    reason: str
    tried: dict[str, Trial]


class Comparison(msgspec.Struct, frozen=True, omit_defaults=True):
    """A contender beside the best on validation rows.

    `behind_best`: PR-AUC it lacks, with the 95 % interval of the paired bootstrap; `tied`: the difference may be
    chance. `cost`: estimated operations a row. `coarse`: it gives too many different customers one score to be chosen.
    Figures of too few customers of a class are None; out-of-time ones are absent without that split.
    """

    candidate: str
    cost: float
    behind_best: float
    behind_best_low: float
    behind_best_high: float
    tied: bool
    validation_pr_auc: float | None
    test_pr_auc: float | None
    oot_validation_pr_auc: float | None = None
    oot_test_pr_auc: float | None = None
    coarse: bool = False


class RecentTraining(msgspec.Struct, frozen=True):
    """What a retraining made of `rows` recent labels: which rows the chosen model was trained on ('all' alike, recent
    ones 'weighted', or 'recent' ones alone), why, and the out-of-fold PR-AUC on recent labels of what was tried, by
    recipe and rows."""

    trained_on: str
    reason: str
    rows: int
    tried: dict[str, float]


class CandidateSummary(msgspec.Struct, frozen=True):
    """Parameters of a candidate, whole numbers as such, and its metrics on validation rows by split."""

    params: dict[str, int | float]
    validation: dict[str, dict[str, float]]


class ProfitPoint(msgspec.Struct, frozen=True):
    """A list that ends after `contacted_share` of the table, with `churners_share` of the table on it; the profit
    expected per customer of the table, with its 95 % interval."""

    contacted_share: float
    churners_share: float
    profit: float
    low: float
    high: float


class Swing(msgspec.Struct, frozen=True, rename={"lowest": "from", "highest": "to"}):
    """Profit per customer when one assumption goes from `lowest` to `highest`; both and `assumed` are None for the
    sampling of the test customers, which is no assumption."""

    assumption: str
    assumed: float | None
    lowest: float | None
    highest: float | None
    profit_low: float
    profit_high: float
    swing: float


class BreakEven(msgspec.Struct, frozen=True):
    """For each assumption the value at which the chosen list earns nothing, the others as assumed.

    None where there is none: nobody is contacted, or no churner is among them.
    """

    save_rate: float | None
    offer_cost: float | None
    customer_value: float | None


class Realized(msgspec.Struct, frozen=True):
    """Churners among a split's test customers worth contacting, against those predicted: `share` is observed over
    predicted, with its 95 % bootstrap interval. Each customer weighs as much as the chance that they have not left,
    because a list has only customers who have not."""

    customers: int
    predicted: float
    observed: float
    share: float
    low: float
    high: float


class ProfitReport(msgspec.Struct, frozen=True, rename={"card_sentence": "words"}):
    """The call list of the training table, None in older bundles, and profit on test customers.

    `chosen` is the operating point of `decide_by` on the random split, `out_of_time` on the newest customers; `best` is
    the cut that would have been best on these rows, which hindsight flatters. Points count every test customer as if
    called before leaving; only `call_list` is money. `values` are the assumptions, means where they differ by customer.
    `tornado` begins with the largest swing. `realized` has the splits with enough churners to measure a share. Of too
    few test customers of a class there are no points.
    """

    decide_by: str
    threshold: float
    values: dict[str, float]
    curve: list[ProfitPoint]
    chosen: ProfitPoint | None
    best: ProfitPoint | None
    tornado: list[Swing]
    break_even: BreakEven
    list_sizes: list[ProfitPoint]
    card_sentence: str
    out_of_time: ProfitPoint | None = None
    realized: dict[str, Realized] = {}
    discount: Discount = Discount()
    call_list: ListMoney | None = None


def no_better_than_random(metrics: Mapping[str, float]) -> bool:
    """Whether the 95 % interval of a model's figures contains what a random list reaches: PR-AUC the share of churners,
    ROC AUC a half. PR-AUC of few churners is above their share by chance alone, so both are asked; a figure that is
    absent says nothing. The figures are those of `judged_part`."""
    part = judged_part(metrics)
    by_list = metrics.get(f"{part}_pr_auc_low", 1.0) <= metrics.get(f"{part}_churn_rate", 0.0)
    return by_list or metrics.get(f"{part}_roc_auc_low", 1.0) <= 0.5


def judged_part(metrics: Mapping[str, float]) -> str:
    """The prefix of the figures by which a model is registered: 'recent' of one that was trained for recent customers,
    because its test customers are others, else 'test', or out of fold ('validation') where too few of a class were
    tested."""
    if "recent_pr_auc" in metrics:
        return "recent"
    return "test" if "test_pr_auc" in metrics or "validation_pr_auc" not in metrics else "validation"


class ModelCard(msgspec.Struct, frozen=True):
    """`card.json`: the decisions of the scorer, and what training says of it, absent in a bundle that was not made by
    `training.export`. `no_signal`: see `no_better_than_random`."""

    contract: str
    fingerprint: str
    model_kind: str
    model_cost: float
    thresholds: Thresholds
    bands: Bands
    title: str = ""
    chosen: str = ""
    reason: str = ""
    comparison: list[Comparison] = []
    metrics: dict[str, float] = {}
    calibration: CalibrationTrials = CalibrationTrials("", "", {})
    candidates: dict[str, CandidateSummary] = {}
    features: list[str] = []
    as_of: str | None = None
    source: str = ""
    rows: int | None = None
    seed: int = 42
    profit: ProfitReport | None = None
    recent: RecentTraining | None = None
    no_signal: bool = False


class LadderFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What GET /model shows of the leakage audit beside a bundle; JSON that only `leakage.audit` looks into. A part
    that the audit did not write is absent."""

    recipe: str | None = None
    rungs: list[Any] | None = None
    bands: list[Any] | None = None
    suspects: list[str] | None = None
    findings: list[Any] | None = None
    left_out: list[Any] | None = None
    left_out_sentences: list[str] | None = None
    complete: Any | None = None
    sentences: list[str] | None = None


class Provenance(msgspec.Struct, frozen=True):
    """`provenance.json`: where the bundle came from; a field that its file does not have is unset. `raw_data` and
    `validated_data` are versions of the kept tables that it was trained on."""

    source: str | msgspec.UnsetType = msgspec.UNSET
    generated: bool | msgspec.UnsetType = msgspec.UNSET
    as_of: str | msgspec.UnsetType = msgspec.UNSET
    rows: int | msgspec.UnsetType = msgspec.UNSET
    data_sha256: str | msgspec.UnsetType | None = msgspec.UNSET
    raw_data: str | msgspec.UnsetType | None = msgspec.UNSET
    validated_data: str | msgspec.UnsetType | None = msgspec.UNSET
    git_commit: str | msgspec.UnsetType | None = msgspec.UNSET
    made_at: str | msgspec.UnsetType | None = msgspec.UNSET
    dagster_run_id: str | msgspec.UnsetType | None = msgspec.UNSET
    mlflow_run_id: str | msgspec.UnsetType | None = msgspec.UNSET
    python: str | msgspec.UnsetType | None = msgspec.UNSET
    libraries: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
