"""The contract as frozen values, and its fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from churn_assets.contract.limits import Audit, Count, Monitoring, Quality, Release, Split, Value
from churn_assets.errors import ContractError


class Kind(StrEnum):
    """The kind of value in the cells of a column."""

    ID = "id"
    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATE = "date"
    CATEGORY = "category"


class Role(StrEnum):
    """The use of a column."""

    KEY = "key"
    LABEL = "label"
    FEATURE = "feature"  # goes to the model as it is, and may be used in expressions
    INPUT = "input"  # only for expressions
    IGNORE = "ignore"  # known, not read, not kept


class Severity(StrEnum):
    """What happens to a row that breaks a rule."""

    REJECT = "reject"
    WARN = "warn"


# The direction in which risk moves with a feature, where it is known beforehand; '' is not known.
Direction = Literal["", "rising", "falling"]
DIRECTIONS: Mapping[Direction, int] = {"": 0, "rising": 1, "falling": -1}

# Which way a counterfactual may move a value; '' is frozen. A later date is up.
Changeable = Literal["", "any", "up", "down"]

NUMERIC_KINDS = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN})

Format = Literal["auto", "excel", "csv", "json", "parquet", "duckdb"]

# Texts for people, which columns a model may read, and which a counterfactual may change: they change the meaning of no
# cell, so they are not part of the fingerprint.
PROSE = frozenset(
    {"title", "doc", "meaning", "unit", "suspect", "attested", "excluded", "changeable", "text", "path"}
    | {"reason_high", "reason_low", "reason_missing", "topic", "show"}
)

# Money by customer changes no score. The older keys of [value] are in the fingerprints of bundles and logs, and stay.
PRICES = frozenset({"value", "save_rates", "control_share"})


# Keys that came after 0.2: unset, they are not part of the fingerprint, so that an older contract keeps its own.
LATER = frozenset({"convert_to"})


@dataclass(frozen=True)
class Column:
    """One column of the customer table.

    `low` and `high` are inclusive, in the column's unit (ISO dates for dates); `missing` are spellings of null besides
    the empty cell; `formats` are strptime formats tried after ISO 8601, or names of `values.DAY_NUMBERS`; `convert_to`
    is the unit of numbers that are written with units. `suspect` says why the column may be a consequence of churn,
    `attested` who attests that it is known before. An `excluded` one is kept and logged, but no input of a model. For
    the reasons see `contract.wording`. The call list shows the columns with `show`; a counterfactual changes only the
    `changeable` ones.
    """

    name: str
    kind: Kind
    role: Role = Role.FEATURE
    low: float | str | None = None
    high: float | str | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    missing: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    true: tuple[str, ...] = ("1", "true", "yes")
    false: tuple[str, ...] = ("0", "false", "no")
    convert_to: str = ""
    monotone: Direction = ""
    unit: str = ""
    doc: str = ""
    suspect: str = ""
    attested: str = ""
    excluded: bool = False
    reason_high: str = ""
    reason_low: str = ""
    reason_missing: str = ""
    show: bool = False
    changeable: Changeable = ""


@dataclass(frozen=True)
class Source:
    """How the file is read; `repairs` are names of repairs for known damage."""

    format: Format = "auto"
    sheet: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Label:
    """The label column and its values, which are compared as text, whole numbers without a decimal point.

    `kept_when` is one value, or a tuple of several: each of them is a customer who stayed.
    """

    column: str
    churned_when: str
    kept_when: str | tuple[str, ...]
    horizon_days: Count
    meaning: str = ""

    @property
    def kept_values(self) -> tuple[str, ...]:
        """The values of `kept_when`, at least one."""
        return (self.kept_when,) if isinstance(self.kept_when, str) else self.kept_when

    @property
    def kept_text(self) -> str:
        """The values of `kept_when`, quoted, for messages."""
        return " or ".join(f"'{value}'" for value in self.kept_values)


@dataclass(frozen=True)
class Time:
    """`as_of`: 'latest' (newest date of the table), an ISO date, or a date column's name."""

    as_of: str = "latest"
    cohort: str | None = None


@dataclass(frozen=True)
class Feature:
    """A derived number; `model = false` keeps it as an intermediate for other expressions.

    `topic` is the column with whose reasons it is counted; by default the first column that it reads.
    """

    name: str
    expression: str
    model: bool = True
    monotone: Direction = ""
    doc: str = ""
    topic: str = ""
    reason_high: str = ""
    reason_low: str = ""
    reason_missing: str = ""


@dataclass(frozen=True)
class Rule:
    """A condition that must hold in each row; a row for which it is null passes."""

    name: str
    expression: str
    severity: Severity = Severity.REJECT
    doc: str = ""


# The split and limits of the audit, of monitoring and of releases change the meaning of no score: not part of the
# fingerprint either.
UNSCORED = frozenset({"split", "audit", "monitoring", "release", "dropped", "unread"})
_FIRST_AUDIT = {  # [audit] was part of it once, mostly with these values: fingerprints stay as they were
    "single_column_pr_auc_lift": 0.6,
    "isolated_churner_share": 0.2,
    "headline_loss_when_removed": 0.5,
    "echo_roc_auc": 0.61,
}


@dataclass(frozen=True)
class Contract:
    """The whole description of a customer table. Made by `contract.load`, which leaves features out of `features` that
    read an excluded column, also through another feature: `dropped` are those, with their places among all features.
    `unread` are the excluded columns that no rule and no `[time]` reads either."""

    name: str
    title: str
    source: Source
    label: Label
    time: Time
    columns: tuple[Column, ...]
    features: tuple[Feature, ...]
    rules: tuple[Rule, ...]
    value: Value
    split: Split = field(default_factory=Split)
    quality: Quality = field(default_factory=Quality)
    audit: Audit = field(default_factory=Audit)
    monitoring: Monitoring = field(default_factory=Monitoring)
    release: Release = field(default_factory=Release)
    dropped: tuple[tuple[int, Feature], ...] = ()
    unread: tuple[str, ...] = ()
    text: str = ""
    path: Path | None = None

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """Columns by their name."""
        return {column.name: column for column in self.columns}

    def column(self, name: str) -> Column:
        """The column of this name; ContractError if there is none."""
        try:
            return self.by_name[name]
        except KeyError:
            raise ContractError(
                f"{self.where}: no column '{name}'; expected one of: {', '.join(self.by_name)}"
            ) from None

    @property
    def where(self) -> str:
        """The file of the contract, or its name, for messages."""
        return str(self.path) if self.path else f"contract '{self.name}'"

    @cached_property
    def key(self) -> Column:
        """The column that names a customer."""
        return next(column for column in self.columns if column.role is Role.KEY)

    @cached_property
    def label_column(self) -> Column:
        """The column that says who churned."""
        return self.column(self.label.column)

    @cached_property
    def kept_columns(self) -> tuple[Column, ...]:
        """Columns of the validated table, the label aside, in the contract's order."""
        return tuple(c for c in self.columns if c.role not in (Role.LABEL, Role.IGNORE))

    @cached_property
    def feature_columns(self) -> tuple[Column, ...]:
        """Columns that are model inputs as they are."""
        return tuple(c for c in self.columns if c.role is Role.FEATURE and not c.excluded)

    @cached_property
    def scoring_columns(self) -> tuple[Column, ...]:
        """Columns that a customer needs to be scored: features and inputs, without key and label."""
        return tuple(c for c in self.logged_columns if c.name not in self.unread)

    @cached_property
    def logged_columns(self) -> tuple[Column, ...]:
        """Columns of the prediction log, which are monitored: the scoring columns and the excluded ones."""
        return tuple(c for c in self.kept_columns if c.role is not Role.KEY)

    @cached_property
    def excluded_columns(self) -> tuple[Column, ...]:
        """Columns that are kept and logged, and read by nothing: they may be absent, and no fault of theirs blocks."""
        return tuple(c for c in self.columns if c.name in self.unread)

    @cached_property
    def date_columns(self) -> tuple[Column, ...]:
        """Date columns, excluded ones among them: they are repaired, and the newest date of a table may be theirs."""
        return tuple(c for c in self.logged_columns if c.kind is Kind.DATE)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the features that are left out because they read an excluded column."""
        return tuple(feature.name for _, feature in self.dropped)

    @property
    def all_features(self) -> tuple[Feature, ...]:
        """The features as they are declared, those that are left out among them."""
        features = list(self.features)
        for place, feature in self.dropped:
            features.insert(place, feature)
        return tuple(features)

    @property
    def whole(self) -> Contract:
        """The contract with nothing excluded."""
        columns = tuple(dataclasses.replace(column, excluded=False) for column in self.columns)
        return dataclasses.replace(self, columns=columns, features=self.all_features, dropped=(), unread=())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything except PROSE, PRICES and UNSCORED: tables of one fingerprint mean the same, and
        one model scores them all. Which columns a model reads is no part of it."""
        complete = dataclasses.replace(self, features=self.all_features)
        scored = {name: value for name, value in _without_prose(complete).items() if name not in UNSCORED}
        scored["audit"] = _FIRST_AUDIT
        canonical = json.dumps(scored, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def lineage(self) -> str:
        """SHA-256 (hex) of the key, label, columns and features that a model uses, as `contract.lineage` lists them."""
        from churn_assets.contract.lineage import lineage_of  # it needs the expressions, which need this module

        return lineage_of(self)


def _without_prose(value: object) -> Any:
    if dataclasses.is_dataclass(value):
        unscored = PROSE | PRICES if isinstance(value, Value) else PROSE
        fields = [(f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value)]
        scored = {n: own for n, own, default in fields if n not in unscored and not (n in LATER and own == default)}
        return {name: _without_prose(own) for name, own in scored.items()}
    if isinstance(value, tuple):
        return [_without_prose(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
