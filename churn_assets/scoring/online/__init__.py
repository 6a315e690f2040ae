"""The single-row path of the service."""
