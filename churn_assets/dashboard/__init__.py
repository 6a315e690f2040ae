"""The dashboard: pages for the people who use the scores, in a process of its own.

A page is a function that reads the home and returns a frozen dataclass (`pages/`), and a template that shows it; the
same dataclass is served as JSON. It reads the published copy of the log, the ledger and the reports, and changes
nothing but through `promotion.service` and the records of the log (`actions`).
"""
