"""Broken columns that look whole by themselves: other units, swapped columns, values of other customers."""
