"""Churn scoring as Dagster assets. Imports nothing: a process pays for what it uses."""
