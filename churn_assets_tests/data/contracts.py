"""Small contracts for tests, as text."""

from churn_assets.contract.edit import toml

_CLASSES = {"integer": (1, 0), "boolean": (True, False)}


def small_contract(body: str, label: str = "left", kind: str = "integer") -> str:
    """A contract of a key `id`, a label of this name and kind, and `body`: tables of TOML."""
    churned, kept = map(toml, _CLASSES[kind])
    return f"""
name = "small"
label = {{ column = "{label}", churned_when = {churned}, kept_when = {kept}, horizon_days = 30 }}
value = {{ monthly_value = 1, months = 1, offer_cost = 0, save_rate = 0.5 }}
[[columns]]
name = "id"
kind = "id"
role = "key"
[[columns]]
name = "{label}"
kind = "{kind}"
role = "label"
{body}"""


def with_columns(numbers: list[str], features: dict[str, str], rules: dict[str, str] | None = None) -> str:
    """A contract of number columns that may be null, with these features and rules; ends in [[columns]]."""
    text = "[features]\n" + "".join(f"{name} = {toml(expression)}\n" for name, expression in features.items())
    for name, expression in (rules or {}).items():
        text += f"[[rules]]\nname = {toml(name)}\nexpression = {toml(expression)}\n"
    for name in numbers:
        text += f'[[columns]]\nname = {toml(name)}\nkind = "number"\nnullable = true\n'
    return small_contract(text)
