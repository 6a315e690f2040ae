"""Explanations of one customer's score: contributions, smallest changes, and a rule that decides it."""
