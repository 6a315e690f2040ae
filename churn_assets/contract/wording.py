"""The text of a reason: one line about a customer's value of a column or feature.

A column or feature may carry `reason_high`, `reason_low` and `reason_missing`, texts in which `{value}`
is the customer's own value, `{typical}` the median of the training customers (most frequent choice of a
category) and `{average}` their mean. Without them a reason is made of doc, unit, value and typical value.

Reasons are counted by topic: a topic is one column, with every feature that belongs to it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter

from churn_assets.contract.expressions import parse_features
from churn_assets.contract.model import Column, Contract, Feature, Kind

PLACEHOLDERS = ("value", "typical", "average")
_TEMPLATES = ("reason_high", "reason_low", "reason_missing")
_WHOLE_FROM = 20.0  # numbers this large are shown without decimals


@dataclass(frozen=True)
class Typical:
    """Of training customers who have a value: `median` (a category: its most frequent code) and `mean`."""

    median: float
    mean: float


def topics(contract: Contract) -> Mapping[str, str]:
    """The topic (a column's name) of each model input, in the model's order.

    A column is its own topic. A feature has its `topic`, or that of the first name that it reads; one
    that reads only the instant of scoring is its own.
    """
    topic_of = {column.name: column.name for column in contract.scoring_columns}
    declared = {feature.name: feature.topic for feature in contract.features}
    for expression in parse_features(contract):
        names = [node for node in ast.walk(expression.tree) if isinstance(node, ast.Name) and node.id in topic_of]
        first = min(names, key=lambda node: (node.lineno, node.col_offset), default=None)
        topic_of[expression.name] = declared[expression.name] or (topic_of[first.id] if first else expression.name)
    inputs = [*(c.name for c in contract.feature_columns), *(f.name for f in contract.features if f.model)]
    return {name: topic_of[name] for name in inputs}


class Wording:
    """Describes values of the contract's columns and features."""

    def __init__(self, contract: Contract) -> None:
        self._columns = contract.by_name
        self._features = {feature.name: feature for feature in contract.features}
        self._conditions = {e.name for e in parse_features(contract) if _is_condition(e.tree)}

    def describe(self, name: str, value: float, typical: Typical | None) -> str:
        """One line about `value` of the column or feature `name`; NaN is missing, a category is its code."""
        about = self._features.get(name) or self._columns[name]
        if math.isnan(value):
            return self._filled(about, about.reason_missing or f"{_label(about)}: not known", value, typical)
        template = self._template(about, value, typical)
        if template:
            return self._filled(about, template, value, typical)
        unit = f" {about.unit}" if isinstance(about, Column) and about.unit else ""
        text = f"{_label(about)}: {self._value(about, value)}{unit}"
        return text + ("" if typical is None else self._comparison(about, value, typical.median))

    def _comparison(self, about: Column | Feature, value: float, median: float) -> str:
        usual = self._value(about, median)
        is_usual = usual == self._value(about, value)
        if _is_category(about):
            return "" if is_usual else f"; most often {usual}"
        return ", as is typical" if is_usual else f"; typical {usual}"

    def _template(self, about: Column | Feature, value: float, typical: Typical | None) -> str:
        if self._is_yes_or_no(about):
            return about.reason_high if value else about.reason_low
        if typical is None or value == typical.median or _is_category(about):
            return about.reason_high if _is_category(about) else ""
        return about.reason_high if value > typical.median else about.reason_low

    def _filled(self, about: Column | Feature, template: str, value: float, typical: Typical | None) -> str:
        known = typical or Typical(math.nan, math.nan)
        # The mean of codes has no meaning; the most frequent choice is the average customer's.
        mean = known.median if _is_category(about) else known.mean
        numbers = {"value": value, "typical": known.median, "average": mean}
        return template.format(**{key: self._value(about, number) for key, number in numbers.items()})

    def _value(self, about: Column | Feature, value: float) -> str:
        if math.isnan(value):
            return "unknown"
        if isinstance(about, Column) and about.choices:
            return about.choices[int(value)]
        if self._is_yes_or_no(about) and value in (0.0, 1.0):
            return "yes" if value else "no"
        return format_number(value)

    def _is_yes_or_no(self, about: Column | Feature) -> bool:
        return about.kind is Kind.BOOLEAN if isinstance(about, Column) else about.name in self._conditions


def format_number(value: float) -> str:
    """A number as people write it.

    >>> [format_number(value) for value in (212, 1340.4, 4.5, 0.1731)]
    ['212', '1,340', '4.5', '0.173']
    """
    if value == round(value) or abs(value) >= _WHOLE_FROM:
        return f"{round(value) or 0:,}"
    return f"{value:.3g}"


def wording_mistakes(contract: Contract) -> Iterator[tuple[str, str]]:
    """(place in the file, message) for every wrong topic and template."""
    scored = [c.name for c in contract.scoring_columns]
    expected = f"expected a column of role feature or input: {', '.join(scored)}"
    for feature in (f for f in contract.features if f.topic and f.topic not in scored):
        yield f"[features] '{feature.name}'", f"key 'topic' is '{feature.topic}'; {expected}"
    for column in contract.columns:
        yield from ((f"[[columns]] '{column.name}'", message) for message in _template_mistakes(column))
    for feature in contract.features:
        yield from ((f"[features] '{feature.name}'", message) for message in _template_mistakes(feature))


def _template_mistakes(about: Column | Feature) -> Iterator[str]:
    for key in _TEMPLATES:
        yield from _mistakes(key, getattr(about, key))


def _mistakes(key: str, template: str) -> Iterator[str]:
    allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        yield f"key '{key}' does not parse ({error}); expected in braces: {allowed}"
        return
    for name, format_, conversion in parts:
        if name not in PLACEHOLDERS or format_ or conversion:
            yield f"key '{key}' has '{{{name}}}' or a format; expected in braces, without a format: {allowed}"


def _label(about: Column | Feature) -> str:
    text = about.doc.strip().rstrip(".") or about.name.replace("_", " ")
    # An abbreviation keeps its capitals.
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _is_category(about: Column | Feature) -> bool:
    return isinstance(about, Column) and bool(about.choices)


def _is_condition(tree: ast.expr) -> bool:
    is_call = isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "isnull"
    is_not = isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    return is_call or is_not or isinstance(tree, ast.Compare | ast.BoolOp)
