"""Windows of distinct customers, their profile and the reference."""
