"""Which model answers whom. Today one arm, the champion; every request comes through here."""

from __future__ import annotations

from dataclasses import dataclass

from churn_assets.serving.model import Models, Served

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Arm:
    """The model that answers a request, and by which policy it was chosen."""

    served: Served
    name: str = CHAMPION
    policy: str = CHAMPION


class Router:
    """Chooses the arm of a request. Metrics and log carry the arm's name and policy."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._arm: Arm | None = None

    def arm(self) -> Arm | None:
        """The arm that answers, None while there is no model."""
        served = self._models.current
        if served is None:
            return None
        arm = self._arm
        if arm is None or arm.served is not served:
            arm = self._arm = Arm(served)
        return arm
