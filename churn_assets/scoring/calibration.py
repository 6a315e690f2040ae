"""Calibration: the map from a model's log-odds to probabilities. Fitting it is in `training.calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from churn_assets.errors import BundleCorrupt

Array = npt.NDArray[np.float64]


class Calibration(Protocol):
    """A map from log-odds to probabilities, never decreasing."""

    kind: ClassVar[str]

    def apply(self, margin: Array) -> Array:
        """Probabilities (n,) in 0..1 of log-odds (n,)."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able form that `calibration_from_json` reads back."""


def sigmoid(margin: Array) -> Array:
    """Probability of log-odds, without overflow at any size.

    >>> sigmoid(np.array([-1e9, 0.0, 1e9])).round(3).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(margin, -700.0, 700.0))))


@dataclass(frozen=True)
class Identity:
    """The model's own probability."""

    kind: ClassVar[str] = "identity"

    def apply(self, margin: Array) -> Array:
        """Probabilities of log-odds."""
        return sigmoid(margin)

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "identity"}`."""
        return {"kind": self.kind}


@dataclass(frozen=True)
class Platt:
    """Sigmoid of `a * margin + b`."""

    a: float
    b: float
    kind: ClassVar[str] = "platt"

    def apply(self, margin: Array) -> Array:
        """Probabilities of log-odds."""
        return sigmoid(self.a * margin + self.b)

    def to_json(self) -> dict[str, Any]:
        """Kind, a and b."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Beta:
    """Beta calibration (Kull et al. 2017): log-odds become `a ln p - b ln(1 - p) + c`."""

    a: float
    b: float
    c: float
    kind: ClassVar[str] = "beta"

    def apply(self, margin: Array) -> Array:
        """Probabilities of log-odds; ln p is taken from the log-odds, so it never overflows."""
        log_p = -np.logaddexp(0.0, -margin)
        log_not_p = -np.logaddexp(0.0, margin)
        return sigmoid(self.a * log_p - self.b * log_not_p + self.c)

    def to_json(self) -> dict[str, Any]:
        """Kind, a, b and c."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Isotonic:
    """A monotone curve through (margin, probability) knots, flat outside them.

    `linear` interpolates between knots and makes no ties inside; `step` keeps the value of the knot
    at or below.
    """

    margins: tuple[float, ...]
    probabilities: tuple[float, ...]
    between: Literal["linear", "step"] = "linear"
    kind: ClassVar[str] = "isotonic"

    def apply(self, margin: Array) -> Array:
        """Probabilities of log-odds."""
        if self.between == "linear":
            return np.interp(margin, self.margins, self.probabilities)
        knot = np.searchsorted(self.margins, margin, side="right") - 1
        return np.asarray(self.probabilities, dtype=np.float64)[np.maximum(knot, 0)]

    def to_json(self) -> dict[str, Any]:
        """Kind, knots and the interpolation between them."""
        knots = {"margins": list(self.margins), "probabilities": list(self.probabilities)}
        return {"kind": self.kind, **knots, "between": self.between}


def calibration_from_json(stored: Mapping[str, Any]) -> Calibration:
    """The calibration that `to_json` wrote; BundleCorrupt for anything else."""
    fields = {name: value for name, value in stored.items() if name != "kind"}
    try:
        match stored["kind"]:
            case "identity":
                return Identity(**fields)
            case "platt":
                return Platt(**fields)
            case "beta":
                return Beta(**fields)
            case "isotonic":
                return _isotonic(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleCorrupt(f"calibration.json: not as written ({error}); make the bundle again") from error
    raise BundleCorrupt(
        f"calibration.json: kind is {stored['kind']!r}, expected identity, platt, beta or isotonic; "
        "make the bundle again"
    )


def _isotonic(margins: list[float], probabilities: list[float], between: str) -> Isotonic:
    if not margins or len(margins) != len(probabilities):
        raise ValueError(f"{len(margins)} margins and {len(probabilities)} probabilities")
    if between not in ("linear", "step"):
        raise ValueError(f"between is {between!r}, expected linear or step")
    shape: Literal["linear", "step"] = "linear" if between == "linear" else "step"
    return Isotonic(tuple(map(float, margins)), tuple(map(float, probabilities)), shape)
