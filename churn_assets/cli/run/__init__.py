"""`churn run`: the command, its progress, and what ends it early."""
