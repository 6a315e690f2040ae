"""From typed columns to the model's matrix, the same code for one row and for ten million."""
