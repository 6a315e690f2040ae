"""Scoring a file of customers."""
