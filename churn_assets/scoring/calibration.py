"""Calibration: the map from a model's log-odds to probabilities. Fitting it is in `training.calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
import numpy as np

from churn_assets.errors import BundleCorrupt
from churn_assets.features.compile import Array


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag=str.lower):
    """A map from log-odds to probabilities, never decreasing. Its JSON form has its fields and its kind."""

    @property
    def kind(self) -> str:
        """The name of the class in lower case."""
        return str(self.__struct_config__.tag)

    def apply(self, margin: Array) -> Array:
        """Probabilities (n,) in 0..1 of log-odds (n,)."""
        return sigmoid(self._log_odds(margin))

    def _log_odds(self, margin: Array) -> Array:
        return margin


def sigmoid(margin: Array) -> Array:
    """Probability of log-odds, without overflow at any size.

    >>> sigmoid(np.array([-1e9, 0.0, 1e9])).round(3).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(margin, -700.0, 700.0))))


class Identity(Calibration, frozen=True):
    """The model's own probability."""


class Platt(Calibration, frozen=True):
    """Sigmoid of `a * margin + b`."""

    a: float
    b: float

    def _log_odds(self, margin: Array) -> Array:
        return self.a * margin + self.b


class Beta(Calibration, frozen=True):
    """Beta calibration (Kull et al. 2017): log-odds become `a ln p - b ln(1 - p) + c`."""

    a: float
    b: float
    c: float

    def _log_odds(self, margin: Array) -> Array:
        log_p, log_not_p = -np.logaddexp(0.0, -margin), -np.logaddexp(0.0, margin)  # never overflow
        return self.a * log_p - self.b * log_not_p + self.c


class Isotonic(Calibration, frozen=True):
    """A monotone curve through (margin, probability) knots: linear between them, flat outside."""

    margins: tuple[float, ...]
    probabilities: tuple[float, ...]
    between: Literal["linear"] = "linear"  # part of a bundle's bytes

    def __post_init__(self) -> None:
        if not self.margins or len(self.margins) != len(self.probabilities):
            raise ValueError(f"{len(self.margins)} margins and {len(self.probabilities)} probabilities")

    def apply(self, margin: Array) -> Array:
        """Probabilities of log-odds."""
        return np.interp(margin, self.margins, self.probabilities)


def calibration_from_json(stored: Mapping[str, Any]) -> Calibration:
    """The calibration of its JSON form; BundleCorrupt for anything else."""
    try:
        return cast(Calibration, msgspec.convert(stored, Identity | Platt | Beta | Isotonic))
    except msgspec.ValidationError as error:
        raise BundleCorrupt(
            f"calibration.json: {error}; expected kind identity, platt, beta or isotonic and its parameters; make the "
            "bundle again"
        ) from error
