"""From a file to an Arrow table."""
