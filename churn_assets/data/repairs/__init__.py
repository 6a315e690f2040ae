"""Declared damage of a table, undone and counted."""
