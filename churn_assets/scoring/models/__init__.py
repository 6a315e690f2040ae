"""The models as files without pickle, and how each computes its log-odds."""
