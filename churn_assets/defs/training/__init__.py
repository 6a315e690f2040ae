"""Candidates, the chosen model and its evaluation."""
