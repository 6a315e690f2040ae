"""What a challenger must reach to replace the champion: `[release]` of a contract, and its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from churn_assets.contract.limits import Bounds, Count, Share

Approval = Literal["automatic", "manual"]
MovedAlias = Literal["put_back", "gate"]


@dataclass(frozen=True)
class Release:
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
