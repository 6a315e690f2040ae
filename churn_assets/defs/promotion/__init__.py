"""Registry, Bento, retraining decision and gate."""
