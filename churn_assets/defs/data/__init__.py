"""Reading and validating the customer table."""
