"""The limits by which a model is judged: value, quality, audit, monitoring, release.

The values that a key may have stand beside its type; `contract.load` checks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Threshold = Literal["profit", "f1", "capacity"]
Outliers = Literal["range", "mahalanobis", "isolation_forest"]
Approval = Literal["automatic", "manual"]


@dataclass(frozen=True)
class Bounds:
    """The values a number may have, ends included; an end that is None is open."""

    ge: float | None = None
    le: float | None = None


Share = Annotated[float, Bounds(ge=0.0, le=1.0)]
Amount = Annotated[float, Bounds(ge=0.0)]
Count = Annotated[int, Bounds(ge=1)]


@dataclass(frozen=True)
class Value:
    """The value of a retained customer, in one currency; `capacity` is the number of contacts of a list.

    `decide_by` names the decision threshold: 'profit' (largest expected profit), 'f1' (largest F1), or 'capacity' (as
    many customers as can be contacted).
    """

    monthly_value: Amount
    months: Count
    offer_cost: Amount
    save_rate: Share
    capacity: Annotated[int | None, Bounds(ge=1)] = None
    decide_by: Threshold = "profit"

    @property
    def customer_value(self) -> float:
        """Value of a customer who stays."""
        return self.monthly_value * self.months


@dataclass(frozen=True)
class Quality:
    """Limits on the table and the model; beyond them the run stops."""

    max_rejected_share: Share = 0.05
    min_rows: Annotated[int, Bounds(ge=2)] = 200
    pr_auc_floor: Share = 0.0


@dataclass(frozen=True)
class Audit:
    """Limits above which a column needs an `attested`, or its model is not registered; see docs/audit.md.

    Shares and lifts run from 0 to 1. `single_column_pr_auc_lift`: PR-AUC lift of the column alone, from the base
    rate (0) to a perfect ranking (1). `isolated_churner_share`: churners with values of the column that no kept
    customer has. `headline_loss_when_removed`: share of the model's lift that is lost when the column and all
    features that read it are removed. `echo_roc_auc`: ROC AUC (0.5 to 1) at and above which a column that nothing but
    the label explains counts as an echo of the label.
    """

    single_column_pr_auc_lift: Share = 0.6
    isolated_churner_share: Share = 0.2
    headline_loss_when_removed: Share = 0.5
    echo_roc_auc: Annotated[float, Bounds(ge=0.5, le=1.0)] = 0.61


@dataclass(frozen=True)
class Monitoring:
    """Limits of the monitoring; docs/monitoring.md describes each.

    A window closes at `window` distinct customers, or, if `window_days` is above 0, after as many days;
    with fewer than `floor` customers there is no verdict. `silent` columns never raise an alarm. A column drifts
    when its test is significant at `significance` over the number of columns and its effect is at least
    `effect`; `windows_to_retrain` such windows in a row request a retraining. Shares run from 0 to 1:
    `missing_rise`, `outside_share`, `spike_rise` are rises over the reference at which data counts as broken;
    `volume_ratio` is the factor by which the number of predictions a day may fall or rise. `pr_auc_drop` is the
    fall in realized PR-AUC beyond noise, `label_floor` the least number of final labels for a metric,
    `labels_to_retrain` the number of new labels that request a retraining by themselves (0: never).
    `cooldown_days` is the least time between two retrainings.
    """

    window: Count = 2000
    window_days: Annotated[int, Bounds(ge=0)] = 0
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
class Release:
    """What a challenger must reach to replace the champion, and who approves it; see docs/release.md.

    `holdout_margin` and `recent_margin` are the PR-AUC differences that the lower bound of the paired
    bootstrap must exceed on the frozen holdout and on recent matured labels. No segment of at least
    `segment_rows` rows may lose more than `segment_drop` of PR-AUC; `max_ece` limits the calibration error.
    `approval` is 'automatic' or 'manual'.
    """

    approval: Approval = "automatic"
    holdout_margin: Annotated[float, Bounds(ge=-1.0, le=1.0)] = -0.0015
    recent_margin: Annotated[float, Bounds(ge=-1.0, le=1.0)] = 0.0
    segment_rows: Annotated[int, Bounds(ge=10)] = 300
    segment_drop: Share = 0.05
    max_ece: Share = 0.03
