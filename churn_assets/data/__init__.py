"""Reading, repairing, validating and profiling a customer table."""
