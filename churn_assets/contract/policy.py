"""What is decided about a model and by which limits: money, quality, audit, monitoring, release."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """What a retained customer is worth, in one currency; `capacity` is contacts per list.

    `decide_by` names the threshold that turns a probability into a yes or no: 'profit' (expected
    profit is largest), 'f1', or 'capacity' (as many as can be contacted).
    """

    monthly_value: float
    months: int
    offer_cost: float
    save_rate: float
    capacity: int | None = None
    decide_by: str = "profit"

    @property
    def customer_value(self) -> float:
        """Value of a customer who stays."""
        return self.monthly_value * self.months


@dataclass(frozen=True)
class Quality:
    """Limits that stop the graph."""

    max_rejected_share: float = 0.05
    min_rows: int = 200
    pr_auc_floor: float = 0.0


@dataclass(frozen=True)
class Audit:
    """Limits above which a column needs an `attested`, or its model is not registered; see docs/audit.md.

    Shares and lifts run from 0 to 1. `single_column_pr_auc_lift`: how far the column alone gets from the
    base rate (0) to a perfect ranking (1). `isolated_churner_share`: churners whose values of the column
    no kept customer has. `headline_loss_when_removed`: share of the model's lift that goes when the
    column and all that reads it are taken away. `echo_roc_auc`: ROC AUC (0.5 to 1) from which on a column
    that nothing but the label explains is taken for an echo of it.
    """

    single_column_pr_auc_lift: float = 0.6
    isolated_churner_share: float = 0.2
    headline_loss_when_removed: float = 0.5
    echo_roc_auc: float = 0.61


@dataclass(frozen=True)
class Monitoring:
    """How predictions are watched; see docs/monitoring.md for what each limit does.

    A window closes at `window` distinct customers, or, if `window_days` is above 0, after as many days;
    below `floor` customers nothing is concluded. `silent` columns never raise an alarm. A column drifts
    when its test is significant at `significance` over the number of columns and its effect is at least
    `effect`; `windows_to_retrain` such windows in a row ask for a retraining. Shares run from 0 to 1:
    `missing_rise`, `outside_share`, `spike_rise` are the rises over the reference from which on data is
    called broken, `volume_ratio` how many times fewer or more predictions a day are called abnormal.
    `pr_auc_drop` is the labelled fall in PR-AUC beyond noise, `label_floor` the matured labels below which
    no metric is concluded from, `labels_to_retrain` as many new ones as ask for a retraining by themselves
    (0: never). `cooldown_days` is the least time between two retrainings.
    """

    window: int = 2000
    window_days: int = 0
    floor: int = 500
    silent: tuple[str, ...] = ()
    significance: float = 0.01
    effect: float = 0.1
    windows_to_retrain: int = 2
    missing_rise: float = 0.1
    outside_share: float = 0.05
    spike_rise: float = 0.2
    volume_ratio: float = 10.0
    stale_hours: float = 48.0
    outliers: str = "range"
    pr_auc_drop: float = 0.02
    label_floor: int = 500
    labels_to_retrain: int = 0
    cooldown_days: float = 7.0


@dataclass(frozen=True)
class Release:
    """What a challenger must hold to replace the champion, and who says yes; see docs/release.md.

    `holdout_margin` and `recent_margin` are the PR-AUC differences that the lower bound of the paired
    bootstrap must exceed on the frozen holdout and on recent matured labels. No segment of at least
    `segment_rows` rows may fall by more than `segment_drop`; `max_ece` bounds the calibration error.
    `approval` is 'automatic' or 'manual'.
    """

    approval: str = "automatic"
    holdout_margin: float = -0.0015
    recent_margin: float = 0.0
    segment_rows: int = 300
    segment_drop: float = 0.05
    max_ece: float = 0.03
