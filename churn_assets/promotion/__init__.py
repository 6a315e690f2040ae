"""Which model answers: the gate, the ledger, the champion pointer and the decision to retrain.

`service.PromotionService` is the only writer of the ledger and of the pointer. Everybody else reads: the pointer
through `pointer`, requests and challengers through `status` and the reading methods of `ledger`.
"""
