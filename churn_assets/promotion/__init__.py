"""Which model answers: registration, the gate, the ledger and the champion pointer."""
