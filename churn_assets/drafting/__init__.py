"""`churn contract init`: a draft contract from a table."""
