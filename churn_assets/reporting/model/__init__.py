"""The model report: metrics, curves, drivers, ladder and limits of one model."""
