"""The rules that the parts of a contract must satisfy together."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NoReturn

from churn_assets.contract.expressions import AS_OF, is_date, parse_features, parse_rules
from churn_assets.contract.model import NUMERIC_KINDS, Column, Contract, Kind, Role
from churn_assets.contract.wording import wording_mistakes
from churn_assets.errors import ContractError, did_you_mean

REPAIRS = ("excel_1904", "excel_serial_zero", "ids_as_text", "rows_as_ids", "decimal_comma", "number_marks")
# Names with a special meaning in expressions or in the validated table.
RESERVED = {
    AS_OF: "the instant of scoring",
    "churned": "the label of the validated table",
    "customer_id": "the key in tables that this package makes",
    **dict.fromkeys(("row_source", "row_as_of", "row_aside"), "a column of the validated table"),
}


def check_contract(contract: Contract, name: str) -> None:
    """Raise ContractError for the first mistake in `contract`; `name` is the file in the message."""
    checker = _Checker(contract, name)
    checker.names()
    checker.source()
    for column in contract.columns:
        checker.column(column)
    checker.roles()
    checker.label()
    checker.time()
    checker.limits()
    parse_features(contract, name)
    parse_rules(contract, name)
    checker.model_inputs()
    for place, message in wording_mistakes(contract):
        checker.fail(place, message)


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


class _Checker:
    def __init__(self, contract: Contract, name: str) -> None:
        self.contract = contract
        self.file = name

    def fail(self, place: str, message: str) -> NoReturn:
        raise ContractError(f"{self.file}, {place}: {message}")

    def names(self) -> None:
        self._once("[[columns]]", "column", (c.name for c in self.contract.columns))
        self._once("[[rules]]", "rule", (r.name for r in self.contract.rules))
        twins = same_but_for_case(c.name for c in self.contract.columns if c.role is not Role.IGNORE)
        if twins:
            self.fail("[[columns]]", f"{twins}, or give it role 'ignore'")
        columns = {c.name for c in self.contract.columns}
        for feature in self.contract.features:
            place = f"[features] '{feature.name}'"
            if feature.name in columns:
                self.fail(place, "a column already has this name; choose another")
            if not (feature.name.isascii() and feature.name.isidentifier()) or keyword.iskeyword(feature.name):
                self.fail(place, "expected a name of letters a-z, digits and _ that is not a keyword of the language")
            if feature.name in RESERVED:
                self.fail(place, f"the name is reserved for {RESERVED[feature.name]}; choose another")

    def _once(self, place: str, item: str, names: Iterable[str]) -> None:
        for name, times in Counter(names).items():
            if times > 1:
                self.fail(place, f"{item} '{name}' occurs {times} times; expected once; rename or remove one")
            if not name.strip():
                self.fail(place, f"a {item} has an empty name; expected at least 1 character; name it")

    def source(self) -> None:
        for repair in self.contract.source.repairs:
            self._among("[source]", "repairs", repair, REPAIRS)

    def _among(self, place: str, key: str, value: str, allowed: Collection[str]) -> None:
        if value not in allowed:
            hint = did_you_mean(value, allowed)
            self.fail(place, f"key '{key}' is '{value}'; {hint}expected one of: {', '.join(allowed) or 'none'}")

    def column(self, column: Column) -> None:
        place = f"[[columns]] '{column.name}'"
        key_under_its_own_name = column.role is Role.KEY and column.name == "customer_id"
        if column.name in RESERVED and column.role not in (Role.LABEL, Role.IGNORE) and not key_under_its_own_name:
            self.fail(
                place,
                f"the name is reserved for {RESERVED[column.name]}; rename it in the table, or give it role 'ignore'",
            )
        if (column.kind is Kind.CATEGORY) != bool(column.choices) and column.role is not Role.IGNORE:
            self.fail(
                place,
                "key 'choices' and kind 'category' belong together; "
                "expected both, with at least 1 choice; add the missing one",
            )
        if column.monotone and column.kind not in NUMERIC_KINDS:
            self.fail(
                place, f"key 'monotone' is set on a {column.kind}; expected number, integer or boolean; remove it"
            )
        if len(set(column.choices)) < len(column.choices):
            self.fail(place, "key 'choices' has a value twice; expected each value once; remove one")
        if not all(choice.strip() for choice in column.choices):
            self.fail(
                place,
                "key 'choices' has an empty text; an empty cell is a missing value; remove it, or set nullable = true",
            )
        for first, second in (("choices", "missing"), ("true", "false")):
            both = sorted(set(getattr(column, first)) & set(getattr(column, second)))
            if both:
                self.fail(
                    place, f"'{both[0]}' is in '{first}' and in '{second}'; expected in one of them; remove it from one"
                )
        if column.role is Role.FEATURE and column.kind in (Kind.ID, Kind.TEXT, Kind.DATE):
            self.fail(
                place,
                f"kind '{column.kind}' cannot be a model input; "
                "expected role 'input', and a feature that reads it; change role",
            )
        self._bounds(place, column)

    def _bounds(self, place: str, column: Column) -> None:
        bounds: dict[str, float | str] = {}
        for key, bound in (("low", column.low), ("high", column.high)):
            if bound is None:
                continue
            if column.kind is Kind.DATE:
                if not isinstance(bound, str) or not is_date(bound):
                    self.fail(place, f"key '{key}' is {bound}; expected a date such as 2014-01-20; correct it")
            elif column.kind not in (Kind.NUMBER, Kind.INTEGER) or isinstance(bound, str):
                self.fail(
                    place,
                    f"key '{key}' is {bound} on a column of kind '{column.kind}'; "
                    "expected bounds on numbers and dates only; remove it",
                )
            bounds[key] = bound
        if len(bounds) == 2 and bounds["low"] > bounds["high"]:  # type: ignore[operator]  # same kind, checked above
            self.fail(place, f"low {bounds['low']} is above high {bounds['high']}; expected low <= high; exchange them")

    def roles(self) -> None:
        for role in (Role.KEY, Role.LABEL):
            named = [c.name for c in self.contract.columns if c.role is role]
            if len(named) != 1:
                columns = ", ".join(named) or "no column"
                self.fail("[[columns]]", f"role '{role}' is on {columns}; expected exactly 1 column; change the others")
        if self.contract.key.kind is not Kind.ID:
            self.fail(
                f"[[columns]] '{self.contract.key.name}'",
                f"kind is '{self.contract.key.kind}'; expected 'id' for the key column; change kind",
            )

    def label(self) -> None:
        label = self.contract.label
        if label.column not in self.contract.by_name:
            self.fail(
                "[label]",
                f"column is '{label.column}', which is not in [[columns]]; "
                "expected a column of role 'label'; add or correct it",
            )
        if self.contract.label_column.role is not Role.LABEL:
            self.fail(
                "[label]",
                f"column '{label.column}' has role '{self.contract.label_column.role}'; "
                "expected role 'label'; change role",
            )
        kept = [value.strip() for value in label.kept_values]
        if label.churned_when.strip() in kept:
            self.fail(
                "[label]",
                f"churned_when and kept_when are both '{label.churned_when}'; expected different values; change one",
            )
        if len(set(kept)) < len(kept):
            self.fail("[label]", "key 'kept_when' has a value twice; expected each value once; remove one")

    def time(self) -> None:
        time = self.contract.time
        dates = [c.name for c in self.contract.date_columns]
        if time.as_of != "latest" and time.as_of not in dates and not is_date(time.as_of):
            self.fail(
                "[time]",
                f"as_of is '{time.as_of}'; expected 'latest', a date, or one of: {', '.join(dates)}; correct it",
            )
        # Without dates, an age (tenure) orders the customers as well.
        ordered = (Kind.DATE, Kind.NUMBER, Kind.INTEGER)
        if time.cohort is not None:
            allowed = [c.name for c in self.contract.kept_columns if c.kind in ordered]
            self._among("[time]", "cohort", time.cohort, allowed)

    def limits(self) -> None:
        value, monitoring = self.contract.value, self.contract.monitoring
        if value.decide_by == "capacity" and value.capacity is None:
            self.fail(
                "[value]",
                "decide_by is 'capacity', and key 'capacity' is missing; expected a number of contacts; add it",
            )
        if monitoring.floor > monitoring.window and not monitoring.window_days:
            self.fail(
                "[monitoring]",
                f"floor {monitoring.floor} is above window {monitoring.window}; expected floor <= window; lower floor",
            )
        for name in monitoring.silent:
            self._among("[monitoring]", "silent", name, [c.name for c in self.contract.columns])

    def model_inputs(self) -> None:
        if not self.contract.feature_columns and not any(f.model for f in self.contract.features):
            self.fail(
                "[features]",
                "no column has role 'feature' and there is no feature; expected at least 1 model input; add one",
            )
