"""Univariate and multivariate drift of a window against the reference."""
