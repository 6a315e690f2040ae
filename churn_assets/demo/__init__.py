"""The whole loop on stage: a service, a Dagster daemon and customers that change, in five minutes."""
