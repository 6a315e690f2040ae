"""Small contracts for tests, as text."""

from churn_assets.contract.edit import toml


def with_columns(numbers: list[str], features: dict[str, str], rules: dict[str, str] | None = None) -> str:
    """A contract of number columns that may be null, with these features and rules; ends in [[columns]]."""
    text = 'name = "small"\n[label]\ncolumn = "left"\nchurned_when = 1\nkept_when = 0\nhorizon_days = 30\n'
    text += "[value]\nmonthly_value = 1\nmonths = 1\noffer_cost = 0\nsave_rate = 0.5\n[features]\n"
    text += "".join(f"{name} = {toml(expression)}\n" for name, expression in features.items())
    for name, expression in (rules or {}).items():
        text += f"[[rules]]\nname = {toml(name)}\nexpression = {toml(expression)}\n"
    text += '[[columns]]\nname = "id"\nkind = "id"\nrole = "key"\n'
    text += '[[columns]]\nname = "left"\nkind = "integer"\nrole = "label"\n'
    for name in numbers:
        text += f'[[columns]]\nname = {toml(name)}\nkind = "number"\nnullable = true\n'
    return text
