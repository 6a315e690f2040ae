"""What the model report says, as typed values: the page and the card are made of them alone.

`metrics.json` is the JSON form of `Report`; `rename` keeps keys of the file that would be poor names of fields.
"""

from __future__ import annotations

import json

import msgspec

from churn_assets.data.validation.report import ValidationReport
from churn_assets.evaluation.metrics import shortage
from churn_assets.leakage.audit import Audit
from churn_assets.scoring.card import CalibrationTrials, CandidateSummary, Comparison, ProfitReport, Provenance
from churn_assets.training.cross_validation import CrossValidation
from churn_assets.training.profit import ThresholdRow

FORMAT = 1
SIDES = {"random": "test", "out_of_time": "oot"}  # split -> its name among `Report.sides`


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Range(msgspec.Struct, frozen=True):
    """From where to where."""

    low: float
    high: float


class ModelFacts(msgspec.Struct, frozen=True):
    """The chosen model; `reason` says why it was chosen, as a clause. `no_signal`: it is no better than random."""

    title: str
    chosen: str
    reason: str
    contract: str
    fingerprint: str
    model_kind: str
    model_cost: float
    bands: dict[str, float]
    seed: int
    features: list[str]
    version: str
    no_signal: bool = False


class LabelFacts(msgspec.Struct, frozen=True):
    """The label of the contract."""

    column: str
    meaning: str
    horizon_days: int | None


class PartFacts(msgspec.Struct, frozen=True):
    """Customers in one part of a split."""

    rows: int
    churn_rate: float

    @property
    def churners(self) -> int:
        """Customers who churned."""
        return round(self.churn_rate * self.rows)


class DataFacts(msgspec.Struct, frozen=True):
    """The customers; `parts` by split and part."""

    source: str
    generated: bool
    as_of: str
    rows: int
    churners: int
    churn_rate: float
    label: LabelFacts
    cohort: str | None
    parts: dict[str, dict[str, PartFacts]]


class ThresholdFacts(msgspec.Struct, frozen=True):
    """The probability from which on a customer is predicted to churn: `by` names the rule, `all` has every rule's."""

    value: float
    by: str
    all: dict[str, float]


class ValueFacts(msgspec.Struct, frozen=True):
    """The contract's assumptions about money; value and save rate are means over the customers if they differ."""

    customer_value: float
    offer_cost: float
    save_rate: float
    capacity: int | None
    by_customer: bool = False


class Confusion(msgspec.Struct, frozen=True):
    """Counts of test customers by label and prediction."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


class CalibrationBin(msgspec.Struct, frozen=True):
    """Customers of similar probability: mean prediction, churn rate and its 95 % interval."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: float


class ScoreHistogram(msgspec.Struct, frozen=True):
    """Customers of each class between `edges` of the probability, which are equally far apart in log-odds; those beyond
    are in the outermost bins."""

    edges: list[float]
    churned: list[int]
    kept: list[int]


class Curves(msgspec.Struct, frozen=True):
    """Points of the curves: (recall, precision), (false positive rate, recall), (share contacted, recall), (share
    contacted, lift) and (share contacted, profit per customer, low, high)."""

    base_rate: float
    pr: list[tuple[float, float]]
    roc: list[tuple[float, float]]
    gains: list[tuple[float, float]]
    calibration: list[CalibrationBin]
    profit: list[tuple[float, float, float, float]]
    lift: list[tuple[float, float]] = []


class Side(msgspec.Struct, frozen=True):
    """Figures of one split's test customers. `ece_of_perfect`: the calibration error that perfect probabilities
    would show on as few customers; `recomputed_pr_auc` is measured again from the bundle's model; `thresholds` are the
    contacts, precision, recall and profit at usual thresholds and at those of each rule. Too few customers of a class
    have no metrics, curves and thresholds. `twin_share` of them equal a training customer in every feature."""

    rows: int
    churners: int
    metrics: dict[str, Estimate]
    recomputed_pr_auc: float | None
    ece_of_perfect: Range
    confusion: Confusion
    curves: Curves
    scores: ScoreHistogram | None = None
    thresholds: list[ThresholdRow] = []
    twin_share: float = 0.0

    @property
    def shortage(self) -> str:
        """Why there are no figures, '' if there are."""
        return shortage(self.churners, self.rows)


class OutOfFold(msgspec.Struct, frozen=True):
    """PR-AUC on the customers that are not tested, each scored by a model that was not trained on them."""

    rows: int
    churners: int
    pr_auc: Estimate


class SegmentFigures(msgspec.Struct, frozen=True):
    """Figures of a segment's test customers; the two areas are None unless there are `enough` customers."""

    rows: int
    churners: int
    churn_rate: float | None
    predicted: float | None
    enough: bool
    pr_auc: Estimate | None = None
    roc_auc: Estimate | None = None


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of a category or yes/no column, or a band of a number, which has an order; `oot` is absent without an
    out-of-time split."""

    column: str
    level: str
    test: SegmentFigures
    oot: SegmentFigures | None = None
    is_band: bool = False


class FeatureImportance(msgspec.Struct, frozen=True):
    """How much a feature moves the score, in the unit of the `Importance` it stands in."""

    feature: str
    value: float
    standard_error: float


class Level(msgspec.Struct, frozen=True):
    """Mean effect of one value of a category, in log-odds."""

    level: str
    value: float | None
    rows: int


class Dependence(msgspec.Struct, frozen=True, omit_defaults=True):
    """Effect of a feature by its value, in log-odds: `levels` of a category or `dots` and their `trend`. `missing` is
    the mean effect where the value is missing, None if it never is."""

    feature: str
    kind: str
    missing: float | None
    dots: list[tuple[float, float]] | None = None
    trend: list[tuple[float, float]] | None = None
    levels: list[Level] | None = None


class FeatureSummary(msgspec.Struct, frozen=True):
    """Effects of one feature on test customers: (Shapley value in log-odds, rank of the feature's value from 0 to 1).

    The rank is None where the value is missing, and of a category. `mean` is the mean absolute effect.
    """

    feature: str
    kind: str
    mean: float
    points: list[tuple[float, float | None]]


class Importance(msgspec.Struct, frozen=True, rename={"description": "words"}):
    """Global importance, the largest first; `method` is 'shapley' or 'permutation'. `summary` are the effects of the
    first features on single customers, estimates where the method is permutation."""

    method: str
    description: str
    unit: str
    sample_rows: int
    model: str
    features: list[FeatureImportance]
    dependence: list[Dependence]
    summary: list[FeatureSummary] = []


class Step(msgspec.Struct, frozen=True):
    """What the column `name`, with every feature that belongs to it, adds to a customer's log-odds; the step without a
    name is the sum of `columns` smaller ones."""

    name: str
    contribution: float
    columns: int = 1


class WorkedCustomer(msgspec.Struct, frozen=True):
    """A test customer: `risk` is low, middle or high. The base of `WorkedCustomers` and the steps add up to
    `log_odds`, which calibration maps to `probability`. `reasons` are those of a call list."""

    risk: str
    customer: str
    churned: bool
    probability: float
    log_odds: float
    predicted: bool
    steps: list[Step]
    reasons: list[str]


class WorkedCustomers(msgspec.Struct, frozen=True):
    """Worked customers from low to high risk. `base` is the log-odds that contributions start from, the mean of
    training customers; `exact` is false where contributions are estimates."""

    exact: bool
    base: float
    base_probability: float
    customers: list[WorkedCustomer]


class LearningPoint(msgspec.Struct, frozen=True):
    """PR-AUC of a model trained on `rows` customers, on these customers and on the test customers."""

    rows: int
    churners: int
    train: float
    test: Estimate


class Learning(msgspec.Struct, frozen=True):
    """The learning curve; its last point is the model of the report. `gain`: what that model reaches on test customers
    beyond one of the largest smaller sample, None without one."""

    points: list[LearningPoint]
    gain: Estimate | None


class Suspect(msgspec.Struct, frozen=True):
    """A column that the contract suspects, why, and who attests that it is known before churn ('': nobody)."""

    column: str
    why: str
    attested: str


class Limit(msgspec.Struct, frozen=True, rename={"text": "words"}):
    """A use that the model is not made for."""

    title: str
    text: str


class Report(msgspec.Struct, frozen=True, rename={"feature_docs": "words"}):
    """Everything the report says. `feature_docs` describe each feature; `fewest` is the smallest class of a segment
    that gets figures; `newest` has the counts of newest customers too few of whom churned or stayed to test them;
    `role` says that the model is a challenger, '' for a champion. `ladder`, `profit`,
    `cross_validation` and `validation` are None where a run made none.
    """

    model: ModelFacts
    data: DataFacts
    threshold: ThresholdFacts
    value: ValueFacts
    sides: dict[str, Side]
    segments: list[Segment]
    fewest: int
    importance: Importance
    feature_docs: dict[str, str]
    comparison: list[Comparison]
    calibration: CalibrationTrials
    candidates: dict[str, CandidateSummary]
    suspects: list[Suspect]
    ladder: Audit | None
    profit: ProfitReport | None
    cross_validation: CrossValidation | None
    validation: ValidationReport | None
    provenance: Provenance
    limits: list[Limit] = []
    worked: WorkedCustomers | None = None
    learning: Learning | None = None
    out_of_fold: OutOfFold | None = None
    newest: PartFacts | None = None
    role: str = ""
    format: int = FORMAT


def untested_newest(report: Report) -> str:
    """Why there are no figures of the newest customers, as a clause; '' if there are."""
    side, few = report.sides.get("oot"), report.newest
    if side is not None:
        return side.shortage
    return shortage(few.churners, few.rows) if few else "the table has no cohorts"


def as_json(value: object) -> str:
    """Canonical JSON of a value; ValueError for a number that is not finite, which no reader would understand."""
    return json.dumps(msgspec.to_builtins(value), indent=1, sort_keys=True, allow_nan=False) + "\n"
