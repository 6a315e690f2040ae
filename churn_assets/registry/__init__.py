"""Runs and models in MLflow: the only package that imports it."""
