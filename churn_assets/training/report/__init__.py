"""The report on a chosen model: facts as JSON, and pages that show nothing else."""
