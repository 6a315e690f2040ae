"""Commands about customer tables: their contract, kept versions, generated ones."""
