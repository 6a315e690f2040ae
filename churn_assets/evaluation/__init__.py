"""Metrics, intervals and curves of a model's scores."""
