"""Fit a calibration on validation rows, and keep it only if it lowers the log-loss significantly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from churn_assets.evaluation.metrics import Floats, Labels, log_loss, losses, pr_auc
from churn_assets.scoring.calibration import Beta, Calibration, Identity, Isotonic, Platt
from churn_assets.scoring.card import CalibrationTrials, Trial

FOLDS = 5


@dataclass(frozen=True)
class CalibrationChoice:
    """The calibration that was kept, and the trials it was chosen by."""

    calibration: Calibration
    trials: CalibrationTrials


def choose_calibration(churned: Labels, margin: Floats, seed: int = 42) -> CalibrationChoice:
    """Identity, Platt, beta or isotonic by out-of-fold log-loss on validation rows.

    A calibration is judged on folds it was not fitted on, because on its own rows it always wins. It must
    lower the log-loss by more than one standard error of the paired difference; isotonic must not
    lower PR-AUC either (its steps make ties).
    """
    fold = np.random.default_rng(seed).permutation(len(margin)) % FOLDS
    base = Identity().apply(margin)
    tried = {"identity": Trial(log_loss(churned, base), pr_auc(churned, base))}
    kept, reason = "identity", "no calibration lowers the log-loss beyond its own noise"
    for kind, fit in _FITS.items():
        held_out = np.empty_like(margin)
        for part in range(FOLDS):
            held_out[fold == part] = fit(churned[fold != part], margin[fold != part]).apply(margin[fold == part])
        gain = losses(churned, base) - losses(churned, held_out)
        tried[kind] = Trial(log_loss(churned, held_out), pr_auc(churned, held_out))
        noise = float(np.std(gain, ddof=1) / np.sqrt(len(gain)))
        ties_hurt = kind == "isotonic" and tried[kind].pr_auc < tried["identity"].pr_auc
        if float(np.mean(gain)) > noise and not ties_hurt and tried[kind].log_loss < tried[kept].log_loss:
            kept = kind
            reason = f"{kind} lowers the out-of-fold log-loss by {np.mean(gain):.5f} (standard error {noise:.5f})"
    calibration = _FITS[kept](churned, margin) if kept in _FITS else Identity()
    return CalibrationChoice(calibration, CalibrationTrials(kept, reason, tried))


def refit(calibration: Calibration, churned: Labels, margin: Floats) -> Calibration:
    """A calibration of the same kind, fitted on other rows."""
    return _FITS[calibration.kind](churned, margin) if calibration.kind in _FITS else calibration


def fit_platt(churned: Labels, margin: Floats) -> Platt:
    """Logistic regression on the log-odds (Platt, 1999)."""
    a, b = _logistic(np.column_stack([margin, np.ones_like(margin)]), churned)
    return Platt(float(a), float(b))


def fit_beta(churned: Labels, margin: Floats) -> Beta:
    """Logistic regression on ln p and -ln(1 - p) (Kull, Silva Filho & Flach, 2017). A term with a negative slope would
    turn customers around; as in the paper it is dropped, and the other fitted alone."""
    log_p, minus_log_q = -np.logaddexp(0.0, -margin), np.logaddexp(0.0, margin)
    ones = np.ones_like(margin)
    a, b, c = _logistic(np.column_stack([log_p, minus_log_q, ones]), churned)
    if a < 0:
        (b, c), a = _logistic(np.column_stack([minus_log_q, ones]), churned), 0.0
    elif b < 0:
        (a, c), b = _logistic(np.column_stack([log_p, ones]), churned), 0.0
    return Beta(float(a), float(b), float(c))


def fit_isotonic(churned: Labels, margin: Floats) -> Isotonic:
    """Pool-adjacent-violators; linear between the blocks, so that ties are made only where it is flat."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4, out_of_bounds="clip").fit(margin, churned)
    return Isotonic(tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_)))


_FITS: Mapping[str, Callable[[Labels, Floats], Calibration]]
_FITS = {"platt": fit_platt, "beta": fit_beta, "isotonic": fit_isotonic}


def _logistic(design: Floats, churned: Labels) -> Floats:
    from sklearn.linear_model import LogisticRegression

    # Almost no penalty: two or three coefficients on thousands of rows need none.
    fitted = LogisticRegression(C=1e6, fit_intercept=False, solver="newton-cholesky", max_iter=200)
    return np.asarray(fitted.fit(design, churned).coef_[0], dtype=np.float64)
