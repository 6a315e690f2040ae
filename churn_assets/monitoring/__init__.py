"""What became of the predictions: windows, quality, drift, labels, performance, decisions, alerts."""
