"""The rules that the parts of a contract must satisfy together."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NoReturn

from churn_assets.contract.expressions import AS_OF, is_date, parse_features, parse_rules, parse_value
from churn_assets.contract.model import NUMERIC_KINDS, Column, Contract, Kind, Role
from churn_assets.contract.values import DAY_NUMBERS, QUARTER
from churn_assets.contract.wording import wording_mistakes
from churn_assets.errors import ContractError, did_you_mean

REPAIRS = ("excel_1904", "excel_serial_zero", "ids_as_text", "rows_as_ids", "decimal_comma", "number_marks", "units")
# Names with a special meaning in expressions or in the validated table.
RESERVED = {
    AS_OF: "the instant of scoring",
    "churned": "the label of the validated table",
    "customer_id": "the key in tables that this package makes",
    **dict.fromkeys(("row_source", "row_as_of", "row_aside"), "a column of the validated table"),
}


def check_contract(contract: Contract, name: str) -> Contract:
    """The contract without the features that read an excluded column, as `with_excluded` makes it. Raises ContractError
    for the first mistake; `name` is the file in messages of expressions."""
    _names(contract)
    for repair in contract.source.repairs:
        _among("[source]", "repairs", repair, REPAIRS)
    for column in contract.columns:
        _column(f"[[columns]] '{column.name}'", column)
        _bounds(f"[[columns]] '{column.name}'", column)
        if column.convert_to and column.role is not Role.IGNORE and "units" not in contract.source.repairs:
            missing = "key 'convert_to' needs the repair 'units'; add it to [source] repairs"
            fail(f"[[columns]] '{column.name}'", missing)
    _roles(contract)
    _label(contract)
    _time(contract)
    _limits(contract)
    checked = with_excluded(contract, {column.name for column in contract.columns if column.excluded}, name)
    if contract.value.value:
        parse_value(contract, name)
    _save_rates(contract)
    for place, message in wording_mistakes(contract):
        fail(place, message)
    return checked


def with_excluded(contract: Contract, names: Collection[str], file: str = "") -> Contract:
    """The contract with exactly the columns `names` excluded, and without the features that read one of them, also
    through another feature. Raises ContractError if no model input remains; `file` is as in `check_contract`."""
    columns = tuple(replace(column, excluded=column.name in names) for column in contract.columns)
    contract = replace(contract.whole, columns=columns)
    without = set(names)
    for feature in parse_features(contract, file):  # in an order in which each follows those that it reads
        if feature.names & without:
            without.add(feature.name)
    needed = {contract.time.as_of, contract.time.cohort}.union(*(r.names for r in parse_rules(contract, file)))
    contract = replace(
        contract,
        features=tuple(f for f in contract.features if f.name not in without),
        dropped=tuple((place, f) for place, f in enumerate(contract.features) if f.name in without),
        unread=tuple(c.name for c in contract.logged_columns if c.excluded and c.name not in needed),
    )
    if not contract.feature_columns and not any(f.model for f in contract.features):
        none = "every model input is excluded" if names else "no column has role 'feature' and there is no feature"
        fail("[features]", f"{none}; expected at least 1 model input; add one")
    return contract


def fail(place: str, message: str) -> NoReturn:
    """Raise ContractError for a value at this place; `parse_contract` adds the file."""
    raise ContractError(f"{place}: {message}")


def same_but_for_case(names: Iterable[str]) -> str:
    """What is wrong with the first two of `names` that differ only by case, and what to do; '' if there are none."""
    first: dict[str, str] = {}
    for name in names:
        twin = first.setdefault(name.lower(), name)
        if twin != name:
            return (
                f"the names '{twin}' and '{name}' differ only by case, which the prediction log (DuckDB) ignores; "
                "expected different names; rename one of them in the table"
            )
    return ""


def _among(place: str, key: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        fail(place, f"key '{key}' is '{value}'; {hint}expected one of: {', '.join(allowed) or 'none'}")


def _names(contract: Contract) -> None:
    for place, item, named in (("[[columns]]", "column", contract.columns), ("[[rules]]", "rule", contract.rules)):
        for name, times in Counter(one.name for one in named).items():
            if times > 1:
                fail(place, f"{item} '{name}' occurs {times} times; expected once; rename or remove one")
            if not name.strip():
                fail(place, f"a {item} has an empty name; expected at least 1 character; name it")
    twins = same_but_for_case(c.name for c in contract.columns if c.role is not Role.IGNORE)
    if twins:
        fail("[[columns]]", f"{twins}, or give it role 'ignore'")
    for name in (feature.name for feature in contract.features):
        place = f"[features] '{name}'"
        if name in contract.by_name:
            fail(place, "a column already has this name; choose another")
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            fail(place, "expected a name of letters a-z, digits and _ that is not a keyword of the language")
        if name in RESERVED:
            fail(place, f"the name is reserved for {RESERVED[name]}; choose another")


def _column(place: str, column: Column) -> None:
    key_under_its_own_name = column.role is Role.KEY and column.name == "customer_id"
    if column.name in RESERVED and column.role not in (Role.LABEL, Role.IGNORE) and not key_under_its_own_name:
        fail(
            place, f"the name is reserved for {RESERVED[column.name]}; rename it in the table, or give it role 'ignore'"
        )
    if (column.kind is Kind.CATEGORY) != bool(column.choices) and column.role is not Role.IGNORE:
        both = "expected both, with at least 1 choice; add the missing one"
        fail(place, f"key 'choices' and kind 'category' belong together; {both}")
    if column.monotone and column.kind not in NUMERIC_KINDS:
        fail(place, f"key 'monotone' is set on a {column.kind}; expected number, integer or boolean; remove it")
    _changeable(place, column)
    if len(set(column.choices)) < len(column.choices):
        fail(place, "key 'choices' has a value twice; expected each value once; remove one")
    if not all(choice.strip() for choice in column.choices):
        instead = "an empty cell is a missing value; remove it, or set nullable = true"
        fail(place, f"key 'choices' has an empty text; {instead}")
    for first, second in (("choices", "missing"), ("true", "false")):
        for value in sorted(set(getattr(column, first)).intersection(getattr(column, second))):
            fail(place, f"'{value}' is in '{first}' and in '{second}'; expected in one of them; remove it from one")
    _spelling(place, column)
    if column.role is Role.FEATURE and column.kind in (Kind.ID, Kind.TEXT, Kind.DATE):
        instead = "expected role 'input', and a feature that reads it; change role"
        fail(place, f"kind '{column.kind}' cannot be a model input; {instead}")


def _changeable(place: str, column: Column) -> None:
    """Only columns whose values a counterfactual can choose may be changeable."""
    if not column.changeable:
        return
    is_read = column.role in (Role.FEATURE, Role.INPUT)
    if not is_read or column.kind in (Kind.ID, Kind.TEXT):
        instead = "expected role 'feature' or 'input', and a number, date, boolean or category; remove it"
        fail(place, f"key 'changeable' is set on a column of role '{column.role}' and kind '{column.kind}'; {instead}")
    if column.kind is Kind.CATEGORY and column.changeable != "any":
        fail(place, f"key 'changeable' is '{column.changeable}' on a category; expected any: choices have no order")


def _spelling(place: str, column: Column) -> None:
    """How the cells of a column are written."""
    if column.convert_to and column.kind not in (Kind.NUMBER, Kind.INTEGER):
        fail(place, f"key 'convert_to' is set on a {column.kind}; expected a number or an integer; remove it")
    if column.convert_to and not column.convert_to.isalpha():
        fail(place, f"key 'convert_to' is '{column.convert_to}'; expected a unit such as months, minutes, GB or calls")
    for format_ in column.formats:
        if "%" not in format_ and format_ not in (*DAY_NUMBERS, QUARTER):
            names = ", ".join((*DAY_NUMBERS, QUARTER))
            fail(place, f"key 'formats' has '{format_}'; expected one such as '%d.%m.%Y', or one of: {names}")


def _bounds(place: str, column: Column) -> None:
    low, high = column.low, column.high
    for key, bound in (("low", low), ("high", high)):
        if column.kind is Kind.DATE:
            if bound is not None and not (isinstance(bound, str) and is_date(bound)):
                fail(place, f"key '{key}' is {bound}; expected a date such as 2014-01-20; correct it")
        elif bound is not None and (column.kind not in (Kind.NUMBER, Kind.INTEGER) or isinstance(bound, str)):
            instead = "expected bounds on numbers and dates only; remove it"
            fail(place, f"key '{key}' is {bound} on a column of kind '{column.kind}'; {instead}")
    if low is not None and high is not None and low > high:  # type: ignore[operator]  # of one kind, checked above
        fail(place, f"low {low} is above high {high}; expected low <= high; exchange them")


def _roles(contract: Contract) -> None:
    for role in (Role.KEY, Role.LABEL):
        named = [c.name for c in contract.columns if c.role is role]
        if len(named) != 1:
            columns = ", ".join(named) or "no column"
            fail("[[columns]]", f"role '{role}' is on {columns}; expected exactly 1 column; change the others")
    key = contract.key
    if key.kind is not Kind.ID:
        fail(f"[[columns]] '{key.name}'", f"kind is '{key.kind}'; expected 'id' for the key column; change kind")


def _label(contract: Contract) -> None:
    label = contract.label
    if label.column not in contract.by_name:
        instead = "expected a column of role 'label'; add or correct it"
        fail("[label]", f"column is '{label.column}', which is not in [[columns]]; {instead}")
    role = contract.label_column.role
    if role is not Role.LABEL:
        fail("[label]", f"column '{label.column}' has role '{role}'; expected role 'label'; change role")
    kept = [value.strip() for value in label.kept_values]
    if label.churned_when.strip() in kept:
        both = f"churned_when and kept_when are both '{label.churned_when}'"
        fail("[label]", f"{both}; expected different values; change one")
    if len(set(kept)) < len(kept):
        fail("[label]", "key 'kept_when' has a value twice; expected each value once; remove one")


def _time(contract: Contract) -> None:
    as_of, cohort = contract.time.as_of, contract.time.cohort
    dates = [c.name for c in contract.date_columns]
    if as_of not in ("latest", *dates) and not is_date(as_of):
        fail("[time]", f"as_of is '{as_of}'; expected 'latest', a date, or one of: {', '.join(dates)}; correct it")
    if cohort is not None:
        # Without dates, an age (tenure) orders the customers as well.
        ordered = [c.name for c in contract.scoring_columns if c.kind in (Kind.DATE, Kind.NUMBER, Kind.INTEGER)]
        _among("[time]", "cohort", cohort, ordered)


def _save_rates(contract: Contract) -> None:
    rates = contract.value.save_rates
    if rates is None:
        return
    place, number = "[value] save_rate", (Kind.NUMBER, Kind.INTEGER)
    kinds = (Kind.CATEGORY, Kind.BOOLEAN) if rates.by else number
    columns = {c.name: c for c in contract.logged_columns if c.kind in (*number, Kind.CATEGORY, Kind.BOOLEAN)}
    _among(place, "column", rates.column, columns)
    column = columns[rates.column]
    if column.kind not in kinds:
        give = "give a rate for each of its values" if not rates.by else "remove the rates, or name another column"
        fail(place, f"column '{column.name}' is a {column.kind}; expected {' or '.join(kinds)}; {give}")
    segments = column.choices or ("true", "false")
    for segment, _ in rates.by:
        hint = did_you_mean(segment, segments)
        if segment not in segments:
            expected = f"expected column, default, or one of: {', '.join(segments)}"
            fail(place, f"'{segment}' is no value of column '{column.name}'; {hint}{expected}; correct it")


def _limits(contract: Contract) -> None:
    value, monitoring = contract.value, contract.monitoring
    if value.decide_by == "capacity" and value.capacity is None:
        missing = "key 'capacity' is missing; expected a number of contacts; add it"
        fail("[value]", f"decide_by is 'capacity', and {missing}")
    if monitoring.floor > monitoring.window and not monitoring.window_days:
        above = f"floor {monitoring.floor} is above window {monitoring.window}"
        fail("[monitoring]", f"{above}; expected floor <= window; lower floor")
    weights = contract.release.canary_weights
    if not weights or any(low >= high for low, high in zip((0.0, *weights), (*weights, 1.0 + 1e-9), strict=True)):
        given = ", ".join(f"{weight:g}" for weight in weights) or "empty"
        fail("[release]", f"canary_weights is {given}; expected rising shares above 0, at most 1; correct them")
    if weights[0] >= 1.0:
        fail(
            "[release]",
            "canary_weights begins with 1, which leaves the champion no customer to compare with; expected a first "
            "share under 1; put a smaller one before it",
        )
    for name in monitoring.silent:
        _among("[monitoring]", "silent", name, [c.name for c in contract.columns])
