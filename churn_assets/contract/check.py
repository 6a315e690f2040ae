"""What must hold between the parts of a contract."""

from __future__ import annotations

import difflib
import keyword
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NoReturn

from churn_assets.contract.expressions import AS_OF, is_date, parse_features, parse_rules
from churn_assets.contract.model import DIRECTIONS, NUMERIC_KINDS, Column, Contract, Kind, Role
from churn_assets.contract.wording import mistakes_in_wording
from churn_assets.errors import ContractError

REPAIRS = ("excel_1904", "excel_serial_zero", "ids_as_text", "rows_as_ids", "decimal_comma", "number_marks")
THRESHOLDS = ("profit", "f1", "capacity")
OUTLIERS = ("range", "mahalanobis", "isolation_forest")
APPROVALS = ("automatic", "manual")

# section, key, lowest, highest (None: no limit)
_LIMITS: tuple[tuple[str, str, float, float | None], ...] = (
    ("value", "save_rate", 0.0, 1.0),
    ("value", "monthly_value", 0.0, None),
    ("value", "offer_cost", 0.0, None),
    ("value", "months", 1, None),
    ("value", "capacity", 1, None),
    ("quality", "max_rejected_share", 0.0, 1.0),
    ("quality", "min_rows", 2, None),
    ("quality", "pr_auc_floor", 0.0, 1.0),
    ("audit", "single_column_pr_auc_lift", 0.0, 1.0),
    ("audit", "isolated_churner_share", 0.0, 1.0),
    ("audit", "headline_loss_when_removed", 0.0, 1.0),
    ("audit", "echo_roc_auc", 0.5, 1.0),
    ("monitoring", "window", 1, None),
    ("monitoring", "window_days", 0, None),
    ("monitoring", "floor", 1, None),
    ("monitoring", "significance", 0.0, 1.0),
    ("monitoring", "effect", 0.0, None),
    ("monitoring", "windows_to_retrain", 1, None),
    ("monitoring", "missing_rise", 0.0, 1.0),
    ("monitoring", "outside_share", 0.0, 1.0),
    ("monitoring", "spike_rise", 0.0, 1.0),
    ("monitoring", "volume_ratio", 1.0, None),
    ("monitoring", "stale_hours", 0.0, None),
    ("monitoring", "pr_auc_drop", 0.0, 1.0),
    ("monitoring", "label_floor", 10, None),
    ("monitoring", "labels_to_retrain", 0, None),
    ("monitoring", "cooldown_days", 0.0, None),
    ("release", "holdout_margin", -1.0, 1.0),
    ("release", "recent_margin", -1.0, 1.0),
    ("release", "segment_rows", 10, None),
    ("release", "segment_drop", 0.0, 1.0),
    ("release", "max_ece", 0.0, 1.0),
)
# Names with a meaning of their own in expressions and in the validated table.
RESERVED = {
    AS_OF: "the instant of scoring",
    "churned": "the label of the validated table",
    "customer_id": "the key in tables that this package makes",
    **dict.fromkeys(("row_source", "row_as_of", "row_aside"), "a mark of the validated table"),
}
FORMATS = ("auto", "excel", "csv", "parquet", "duckdb")


def check_contract(contract: Contract, name: str) -> None:
    """Raise ContractError for the first thing in `contract` that cannot be."""
    checker = _Checker(contract, name)
    checker.names()
    checker.source()
    for column in contract.columns:
        checker.column(column)
    checker.roles()
    checker.label()
    checker.time()
    checker.numbers()
    parse_features(contract, name)
    parse_rules(contract, name)
    checker.model_sees_something()
    for place, words in mistakes_in_wording(contract):
        checker.fail(place, words)


class _Checker:
    def __init__(self, contract: Contract, name: str) -> None:
        self.contract = contract
        self.file = name

    def fail(self, place: str, words: str) -> NoReturn:
        raise ContractError(f"{self.file}, {place}: {words}")

    def names(self) -> None:
        self._once("[[columns]]", "column", (c.name for c in self.contract.columns))
        self._once("[[rules]]", "rule", (r.name for r in self.contract.rules))
        columns = {c.name for c in self.contract.columns}
        for feature in self.contract.features:
            place = f"[features] '{feature.name}'"
            if feature.name in columns:
                self.fail(place, "a column has that name already; choose another")
            if not (feature.name.isascii() and feature.name.isidentifier()) or keyword.iskeyword(feature.name):
                self.fail(place, "expected a name of letters a-z, digits and _ that is no word of the language")
            self._among(place, "monotone", feature.monotone, DIRECTIONS)
            if feature.name in RESERVED:
                self.fail(place, f"the name is taken by {RESERVED[feature.name]}; choose another")

    def _once(self, place: str, what: str, names: Iterable[str]) -> None:
        for name, times in Counter(names).items():
            if times > 1:
                self.fail(place, f"{what} '{name}' stands {times} times, expected once; rename or remove one")
            if not name.strip():
                self.fail(place, f"a {what} has an empty name")

    def source(self) -> None:
        source = self.contract.source
        self._among("[source]", "format", source.format, FORMATS)
        for repair in source.repairs:
            self._among("[source]", "repairs", repair, REPAIRS)

    def _among(self, place: str, key: str, value: str, allowed: Collection[str]) -> None:
        if value not in allowed:
            near = difflib.get_close_matches(value, allowed, 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            self.fail(place, f"key '{key}' is '{value}'; {hint}allowed: {', '.join(filter(None, allowed)) or 'none'}")

    def column(self, column: Column) -> None:
        place = f"[[columns]] '{column.name}'"
        key_under_its_own_name = column.role is Role.KEY and column.name == "customer_id"
        if column.name in RESERVED and column.role not in (Role.LABEL, Role.IGNORE) and not key_under_its_own_name:
            self.fail(place, f"the name is taken by {RESERVED[column.name]}; rename it in the table or ignore it")
        if (column.kind is Kind.CATEGORY) != bool(column.choices) and column.role is not Role.IGNORE:
            self.fail(place, "choices belong to kind 'category', and a category needs at least one")
        self._among(place, "monotone", column.monotone, DIRECTIONS)
        if column.monotone and column.kind not in NUMERIC_KINDS:
            self.fail(place, f"key 'monotone' belongs to numbers, this is a {column.kind}; remove it")
        if len(set(column.choices)) < len(column.choices):
            self.fail(place, "key 'choices' names a value twice")
        if not all(choice.strip() for choice in column.choices):
            self.fail(place, "key 'choices' has an empty text, and an empty cell is a missing value")
        for one, two in (("choices", "missing"), ("true", "false")):
            both = sorted(set(getattr(column, one)) & set(getattr(column, two)))
            if both:
                self.fail(place, f"'{both[0]}' stands in '{one}' and in '{two}'; it can mean one thing only")
        if column.role is Role.FEATURE and column.kind in (Kind.ID, Kind.TEXT, Kind.DATE):
            self.fail(place, f"a {column.kind} cannot go to the model as it is; use role 'input' and a feature")
        self._bounds(place, column)

    def _bounds(self, place: str, column: Column) -> None:
        bounds: dict[str, float | str] = {}
        for key, bound in (("low", column.low), ("high", column.high)):
            if bound is None:
                continue
            if column.kind is Kind.DATE:
                if not isinstance(bound, str) or not is_date(bound):
                    self.fail(place, f"key '{key}' is {bound}, expected a date such as 2014-01-20")
            elif column.kind not in (Kind.NUMBER, Kind.INTEGER) or isinstance(bound, str):
                self.fail(place, f"key '{key}' is {bound}, expected bounds on numbers and dates only")
            bounds[key] = bound
        if len(bounds) == 2 and bounds["low"] > bounds["high"]:  # type: ignore[operator]  # same kind, checked above
            self.fail(place, f"low {bounds['low']} is above high {bounds['high']}")

    def roles(self) -> None:
        for role in (Role.KEY, Role.LABEL):
            named = [c.name for c in self.contract.columns if c.role is role]
            if len(named) != 1:
                found = ", ".join(named) or "none"
                self.fail("[[columns]]", f"role '{role}' is held by {found}, expected exactly one column")
        if self.contract.key.kind is not Kind.ID:
            self.fail(f"[[columns]] '{self.contract.key.name}'", "the key column must be of kind 'id'")

    def label(self) -> None:
        label = self.contract.label
        if label.column not in self.contract.by_name:
            self.fail("[label]", f"column '{label.column}' is not among the columns")
        if self.contract.label_column.role is not Role.LABEL:
            self.fail(
                "[label]",
                f"column '{label.column}' has role '{self.contract.label_column.role}', not 'label'",
            )
        if label.churned_when == label.kept_when:
            self.fail("[label]", f"churned_when and kept_when are both '{label.kept_when}'")
        if label.horizon_days <= 0:
            self.fail("[label]", f"horizon_days is {label.horizon_days}, expected at least 1")

    def time(self) -> None:
        time = self.contract.time
        dates = [c.name for c in self.contract.date_columns]
        if time.as_of != "latest" and time.as_of not in dates and not is_date(time.as_of):
            self.fail("[time]", f"as_of is '{time.as_of}', expected 'latest', a date, or one of: {', '.join(dates)}")
        # Age in the table orders customers as well as a date does, when a table has no dates.
        ordered = (Kind.DATE, Kind.NUMBER, Kind.INTEGER)
        if time.cohort is not None:
            allowed = [c.name for c in self.contract.kept_columns if c.kind in ordered]
            self._among("[time]", "cohort", time.cohort, allowed)

    def numbers(self) -> None:
        for section, key, low, high in _LIMITS:
            number = getattr(getattr(self.contract, section), key)
            if number is not None and (number < low or (high is not None and number > high)):
                allowed = f"{low} to {high}" if high is not None else f"at least {low}"
                self.fail(f"[{section}]", f"key '{key}' is {number}, expected {allowed}")
        value, monitoring = self.contract.value, self.contract.monitoring
        self._among("[value]", "decide_by", value.decide_by, THRESHOLDS)
        if value.decide_by == "capacity" and value.capacity is None:
            self.fail("[value]", "decide_by is 'capacity', but key 'capacity' is missing")
        self._among("[monitoring]", "outliers", monitoring.outliers, OUTLIERS)
        self._among("[release]", "approval", self.contract.release.approval, APPROVALS)
        if monitoring.floor > monitoring.window and not monitoring.window_days:
            self.fail("[monitoring]", f"floor {monitoring.floor} is above window {monitoring.window}")
        for name in monitoring.silent:
            self._among("[monitoring]", "silent", name, [c.name for c in self.contract.columns])

    def model_sees_something(self) -> None:
        if not self.contract.feature_columns and not any(f.model for f in self.contract.features):
            self.fail("[features]", "no column of role 'feature' and no feature: the model would see nothing")
