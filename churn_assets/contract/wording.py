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
_SIGNIFICANT = 2  # digits of those below 1; from 1 on one decimal
_MOST_DECIMALS = 12


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
        """One line about `value` of the column or feature `name`; NaN is missing, a category is its code.

        The text compares only where the numbers that it shows differ: a template that compares is used for a value
        that lies on its side of each number it names, and the typical value is left out beside an equal one.
        """
        about = self._features.get(name) or self._columns[name]
        if math.isnan(value):
            return self._filled(about, about.reason_missing or f"{_label(about)}: not known", value, typical)
        template = self._template(about, value, typical)
        if template:
            return self._filled(about, template, value, typical)
        own = self._value(about, value)
        unit = _unit(about)
        text = f"{_label(about)}: {own}{unit}"
        if typical is None or (usual := self._value(about, typical.median)) == own:
            return text
        return f"{text}; {'most often' if _is_category(about) else 'typical'} {usual}{' %' if unit == ' %' else ''}"

    def _template(self, about: Column | Feature, value: float, typical: Typical | None) -> str:
        """The contract's text for this value; '' if there is none, or it would compare the value wrongly."""
        is_ordered = not (_is_category(about) or self._is_yes_or_no(about))
        if typical is None and is_ordered:
            return ""
        high = value > typical.median if typical and is_ordered else bool(value) or _is_category(about)
        template = about.reason_high if high else about.reason_low
        named = {field for _, field, _, _ in Formatter().parse(template)} | ({"typical"} if is_ordered else set())
        compared = [number for field, number in _numbers(about, value, typical).items() if field in named - {"value"}]
        if any(math.isnan(number) for number in compared):
            return ""
        own = self._value(about, value)
        agrees = all(not is_ordered or (value > number) == high for number in compared)
        return template if agrees and all(self._value(about, number) != own for number in compared) else ""

    def _filled(self, about: Column | Feature, template: str, value: float, typical: Typical | None) -> str:
        numbers = _numbers(about, value, typical)
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


def _numbers(about: Column | Feature, value: float, typical: Typical | None) -> dict[str, float]:
    """What each placeholder stands for."""
    known = typical or Typical(math.nan, math.nan)
    # The mean of codes has no meaning; the most frequent choice is the average customer's.
    mean = known.median if _is_category(about) else known.mean
    return {"value": value, "typical": known.median, "average": mean}


def format_number(value: float) -> str:
    """A number as people write it.

    >>> [format_number(value) for value in (212, 1340.4, 4.5, 0.1731, 0.0000174)]
    ['212', '1,340', '4.5', '0.17', '0.000017']
    """
    if value == round(value) or abs(value) >= _WHOLE_FROM:
        return f"{round(value) or 0:,}"
    decimals = min(max(_SIGNIFICANT - 1 - math.floor(math.log10(abs(value))), 1), _MOST_DECIMALS)
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".")


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
    """The doc, or the name as the table spells it, in one line."""
    text = " ".join(about.doc.split()).rstrip(".")
    if not text:
        return " ".join(about.name.split()) if isinstance(about, Column) else about.name.replace("_", " ")
    first = text.split()[0]
    # An abbreviation, and a name of the table such as MonthlyCharges, keeps its capitals.
    return text if first != first.capitalize() or first == about.name.strip() else text[:1].lower() + text[1:]


def _unit(about: Column | Feature) -> str:
    """The unit behind a value; '' for one that the label has already."""
    unit = about.unit if isinstance(about, Column) else ""
    if unit == "percent":
        return " %"
    return f" {unit}" if unit and unit.lower() not in _label(about).lower() else ""


def _is_category(about: Column | Feature) -> bool:
    return isinstance(about, Column) and bool(about.choices)


def _is_condition(tree: ast.expr) -> bool:
    is_call = isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "isnull"
    is_not = isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    return is_call or is_not or isinstance(tree, ast.Compare | ast.BoolOp)
