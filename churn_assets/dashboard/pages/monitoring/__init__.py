"""The page on monitoring: windows and drift, the values of columns, the service."""
