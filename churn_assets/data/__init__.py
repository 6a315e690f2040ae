"""From a customer table, whatever its file, to rows that keep the contract and rows that do not."""
