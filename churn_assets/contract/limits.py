"""The limits by which a model is judged: value, quality, audit, monitoring, release.

The values that a key may have stand beside its type; `contract.load` checks them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

Threshold = Literal["profit", "f1", "capacity"]
Accused = Literal["exclude", "refuse"]
Outliers = Literal["range", "mahalanobis", "isolation_forest"]
SplitMethod = Literal["hash", "published"]
Approval = Literal["automatic", "manual"]
MovedAlias = Literal["put_back", "gate"]
Rollout = Literal["direct", "canary"]


@dataclass(frozen=True)
class Bounds:
    """The values a number may have, ends included; without `le` there is no upper end."""

    ge: float
    le: float | None = None


Share = Annotated[float, Bounds(ge=0.0, le=1.0)]
Amount = Annotated[float, Bounds(ge=0.0)]
Count = Annotated[int, Bounds(ge=1)]


@dataclass(frozen=True)
class SaveRates:
    """The save rate by `column`: of each value of a category or boolean in `by`, or the number in the column itself
    if `by` is empty. Where neither gives one, `Value.save_rate` holds."""

    column: str
    by: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Value:
    """The value of a retained customer, in one currency; `capacity` is the number of contacts of a list.

    `value` is an expression that computes the value of each customer; where it is missing, or there is none, it is the
    constant `customer_value`. `decide_by` names the decision threshold: 'profit' (largest expected profit),
    'f1' (largest F1), or 'capacity' (as many customers as can be contacted). `control_share` of the customers worth
    contacting are left alone, to measure what contacting does.
    """

    monthly_value: Amount
    months: Count
    offer_cost: Amount
    save_rate: Share
    capacity: Annotated[int | None, Bounds(ge=1)] = None
    decide_by: Threshold = "profit"
    control_share: Annotated[float, Bounds(ge=0.0, le=0.5)] = 0.0
    value: str = ""
    save_rates: SaveRates | None = None  # the other forms of `save_rate`, which is then the rate where they give none

    @property
    def customer_value(self) -> float:
        """Value of a customer who stays, where no expression gives another."""
        return self.monthly_value * self.months

    @property
    def by_customer(self) -> bool:
        """Whether value or save rate differ by customer."""
        return bool(self.value) or self.save_rates is not None


@dataclass(frozen=True)
class Split:
    """How training, validation and test customers are drawn: 'hash' by a hash of the customer id, whatever the order of
    the rows; 'published' as scikit-learn's `train_test_split` draws rows in the order of the file."""

    method: SplitMethod = "hash"


@dataclass(frozen=True)
class Quality:
    """Limits on the table and the model; beyond them the run stops."""

    max_rejected_share: Share = 0.05
    min_rows: Annotated[int, Bounds(ge=2)] = 200
    pr_auc_floor: Share = 0.0


@dataclass(frozen=True)
class Audit:
    """Limits above which a column needs an `attested`, or no model reads it; see docs/audit.md.

    Shares and lifts run from 0 to 1; `echo_roc_auc` is a ROC AUC, 0.5 to 1. With `accused` "refuse" the model is
    trained with the column, and not registered.
    """

    single_column_pr_auc_lift: Share = 0.7
    isolated_churner_share: Share = 0.2
    headline_loss_when_removed: Share = 0.5
    echo_roc_auc: Annotated[float, Bounds(ge=0.5, le=1.0)] = 0.61
    pair_pr_auc_lift: Share = 0.8
    headline_pr_auc_lift: Share = 0.98
    accused: Accused = "exclude"


@dataclass(frozen=True)
class Monitoring:
    """Limits of the monitoring; docs/monitoring.md describes each. Shares run from 0 to 1.

    With `window_days` above 0 a window closes after as many days, not at `window` customers. With `batch_pause_minutes`
    above 0 rows without such a pause are one batch, which is one window. `labels_to_retrain` of
    0 is never. `volume_ratio` is the factor by which the number of predictions a day may fall or rise.
    """

    window: Count = 2000
    window_days: Annotated[int, Bounds(ge=0)] = 0
    batch_pause_minutes: Annotated[float, Bounds(ge=0.0, le=1440.0)] = 0.0
    floor: Count = 500
    silent: tuple[str, ...] = ()
    significance: Share = 0.01
    effect: Amount = 0.1
    windows_to_retrain: Count = 2
    missing_rise: Share = 0.1
    outside_share: Share = 0.05
    spike_rise: Share = 0.2
    volume_ratio: Annotated[float, Bounds(ge=1.0)] = 10.0
    stale_hours: Amount = 48.0
    outliers: Outliers = "range"
    pr_auc_drop: Share = 0.02
    label_floor: Annotated[int, Bounds(ge=10)] = 500
    labels_to_retrain: Annotated[int, Bounds(ge=0)] = 0
    cooldown_days: Amount = 7.0


@dataclass(frozen=True)
class Guardrails:
    """What a challenger may not do while it is let in; see docs/guardrails.md. Each limit is against the champion, and
    is crossed when a test that may be looked at any number of times shows it.

    The share of rows with an error may not rise by `max_error_rise`, the 99th percentile of the scoring time not by the
    factor `max_p99_ratio`; mean score and share of decisions may not move by `max_score_shift` and
    `max_decision_shift`, nor the share of scores under any value by `max_distribution_shift`; a shadow may not decide
    otherwise for `max_flips` of the rows; the share of refused rows, and of rows with a warning, may not rise by
    `max_quality_rise`. On final labels PR-AUC may not fall by `max_pr_auc_drop`, log-loss not rise by
    `max_log_loss_rise`. Of releases of an equal model at most
    `false_rollbacks` end in a rollback.
    """

    max_error_rise: Share = 0.005
    max_p99_ratio: Annotated[float, Bounds(ge=1.0)] = 1.5
    max_score_shift: Share = 0.03
    max_distribution_shift: Share = 0.1
    max_decision_shift: Share = 0.05
    max_flips: Share = 0.1
    max_quality_rise: Share = 0.05
    max_pr_auc_drop: Share = 0.02
    max_log_loss_rise: Amount = 0.01
    false_rollbacks: Annotated[float, Bounds(ge=0.0001, le=0.5)] = 0.05


@dataclass(frozen=True)
class Release(Guardrails):
    """What a challenger must reach to replace the champion, and who approves it; see docs/release.md.

    The margins are the PR-AUC differences that the lower bound of the paired bootstrap must exceed. No segment of
    at least `segment_rows` rows may lose more than `segment_drop` of PR-AUC; a calibration error over `max_ece` may not
    be larger than the champion's. Recent labels are those of the newest `recent_windows` windows that have any.
    `moved_alias`: whether an alias that somebody has moved in MLflow to a refused challenger is only put back, or takes
    that one through the gate once more.
    """

    approval: Approval = "automatic"
    holdout_margin: Annotated[float, Bounds(ge=-1.0, le=1.0)] = -0.0015
    recent_margin: Annotated[float, Bounds(ge=-1.0, le=1.0)] = 0.0
    segment_rows: Annotated[int, Bounds(ge=10)] = 300
    segment_drop: Share = 0.05
    max_ece: Share = 0.03
    recent_windows: Count = 2
    moved_alias: MovedAlias = "put_back"
    rollout: Rollout = "direct"
    canary_weights: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0)
    canary_hold_minutes: Amount = 30.0
    canary_rows: Count = 1000
    deadline_days: Annotated[float, Bounds(ge=0.01)] = 14.0

    @property
    def guardrails(self) -> Guardrails:
        """The limits of a release alone."""
        return Guardrails(*(getattr(self, field.name) for field in fields(Guardrails)))
