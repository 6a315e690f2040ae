"""Ingesting the prediction log."""
