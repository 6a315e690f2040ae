"""How a home keeps its files: atomic writes, locks, databases, sealed folders."""
