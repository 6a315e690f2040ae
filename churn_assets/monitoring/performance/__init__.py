"""Labels, realized and estimated performance of a window."""
