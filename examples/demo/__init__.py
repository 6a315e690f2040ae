"""The demo: the whole loop against a real service and a real Dagster daemon. Run it with `make demo`."""
