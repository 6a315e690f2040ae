"""MLflow: runs, registered models and their tags."""
