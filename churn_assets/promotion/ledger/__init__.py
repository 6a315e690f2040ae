"""Decisions, requests, challengers and moves of a home in one SQLite file."""
