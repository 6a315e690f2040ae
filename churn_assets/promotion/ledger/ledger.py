"""The ledger of a home: what was decided, asked for, trained, judged, approved and moved, and why.

    decision -> request: open -> started -> finished            (at most one in flight)
                                    `-> failed -> open again, 3 attempts, then abandoned
    challenger: waiting_gate -> refused | waiting_approval | approved -> promoted; or rejected by a person
    move of the champion: intended -> done | abandoned

Each call is one transaction of SQLite, on disk when it returns. Reading is cheap enough for sensors and
makes no file. Raises LedgerCorrupt, LedgerUnavailable, and TransitionRefused for what must not be.
"""

from __future__ import annotations

from churn_assets.promotion.ledger.challengers import Challengers
from churn_assets.promotion.ledger.moves import Moves
from churn_assets.promotion.ledger.requests import Requests


class Ledger(Requests, Challengers, Moves):
    """`Ledger(settings.ledger_path)`; holds nothing open between calls, so it may be kept or made anew."""
