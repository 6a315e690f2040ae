"""The call list."""
