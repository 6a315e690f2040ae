"""Generated customers: the process, scenarios of drift, faults and planted leaks."""
