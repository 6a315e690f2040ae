"""A small contract that has something of everything, to break in one place at a time."""

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract

SMALL = """\
name = "small"
title = "Small"

[source]
format = "csv"
repairs = ["ids_as_text"]

[label]
column = "lost"
churned_when = "yes"
kept_when = "no"
horizon_days = 30

[time]
as_of = "latest"
cohort = "joined"

[[columns]]
name = "id"
kind = "id"
role = "key"

[[columns]]
name = "lost"
kind = "text"
role = "label"

[[columns]]
name = "joined"
kind = "date"
role = "input"
low = 2000-01-01

[[columns]]
name = "seen"
kind = "date"
role = "input"
nullable = true

[[columns]]
name = "spend"
kind = "number"
low = 0
high = 100
nullable = true

[[columns]]
name = "visits"
kind = "integer"
low = 0

[[columns]]
name = "member"
kind = "boolean"

[[columns]]
name = "plan"
kind = "category"
choices = ["a", "b", "c"]
nullable = true

[[columns]]
name = "note"
kind = "text"
role = "ignore"

[features]
age_days = "days(as_of - joined)"
spend_per_visit = { expression = "spend / visits", doc = "money a visit" }

[[rules]]
name = "joined_first"
expression = "joined <= seen"

[value]
monthly_value = 10
months = 12
offer_cost = 1
save_rate = 0.1

[monitoring]
silent = ["joined"]
"""


def small(**features: str) -> Contract:
    """The contract with these features instead of its own."""
    lines = "\n".join(f"{name} = '''{expression}'''" for name, expression in features.items())
    start, end = SMALL.index("[features]"), SMALL.index("[[rules]]")
    return parse_contract(f"{SMALL[:start]}[features]\n{lines}\n\n{SMALL[end:]}", "small.toml")
