"""The ledger of a home: what was decided, requested, trained, judged, approved and moved, and why.

decision -> request: open -> started -> finished            (at most one in flight)
                                |-> failed -> open again, 3 attempts, then abandoned
                                `-> abandoned: canceled by a person, or ended without a model
challenger: waiting_gate -> refused | waiting_approval | approved -> promoted; or rejected by a person
move of the champion, move of the policy: intended -> done | abandoned

`store` is what the rest of the package uses; the other modules hold the rules and the SQL of one kind of record each.
"""

from churn_assets.promotion.ledger.requests import IN_FLIGHT
from churn_assets.promotion.ledger.schema import SCHEMA
from churn_assets.promotion.ledger.store import Ledger

__all__ = ["IN_FLIGHT", "SCHEMA", "Ledger"]
