"""Metrics of the loop for Prometheus: what a home holds, read from its files, ledger and published log."""
