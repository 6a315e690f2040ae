"""Which unit the numbers of an unknown column have, and why some cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from churn_assets.data.repairs.numbers import NUMBER_READERS, marks_of
from churn_assets.data.repairs.units import read_quantity, split_quantity, unit_named
from churn_assets.errors import in_rows

_BARE_SHARE = 0.5  # with more numbers without a unit, the others are spelling mistakes
_MONTHS, _MINUTES = {"years", "months", "weeks"}, {"hours", "minutes", "seconds"}


@dataclass(frozen=True)
class Quantity:
    """`convert_to` is the unit, `repair` the style of the numbers ('' if a point is all they have), `numbers` those of
    the texts that are read. `conflict` says why they are not one quantity."""

    convert_to: str
    repair: str
    numbers: Mapping[str, float]
    questions: tuple[str, ...] = ()
    conflict: str = ""


def find_quantity(counts: Mapping[str, int]) -> Quantity | None:
    """The quantity of a column's texts (text -> rows), None if they are not numbers with units."""
    parts = {text: pairs for text in counts if (pairs := split_quantity(text)) is not None}
    rows = Counter[str]()
    for text, pairs in parts.items():
        for _, name in pairs:
            rows[name] += counts[text]
    bare = rows.pop("", 0)
    if not rows or bare > _BARE_SHARE * sum(counts[text] for text in parts):
        return None
    units = _without_m(rows, parts.values())
    dimensions = {unit.dimension for name in units if (unit := unit_named(name)) is not None}
    if len(dimensions) > 1:
        return _in_conflict(units, dimensions)
    compound = any(len(pairs) > 1 for pairs in parts.values())
    target = _target(units, compound)
    if not target:
        return None
    readings = {style: _read(parts, target, style) for style in ("", *NUMBER_READERS)}
    style = max(readings, key=lambda name: sum(counts[text] for text in readings[name]))
    questions = _questions(target, bare, units, parts)
    return Quantity(target, style if style == "decimal_comma" else "", readings[style], questions)


def mixed_marks(counts: Mapping[str, int]) -> str:
    """Why numbers of several currencies, or with and without a percent sign, are not one amount; '' if they are."""
    rows, percent, plain = Counter[str](), 0, 0
    for text, n in counts.items():
        marks = marks_of(text)
        rows.update(dict.fromkeys(marks - {"%"}, n))
        percent += n if "%" in marks else 0
        plain += n if not marks and text.strip(" 0.,") else 0  # a zero is zero in per cent, too
    if len(rows) > 1:
        pairs = ", ".join(f"{mark} ({in_rows(n)})" for mark, n in rows.most_common(4))
        return f"its amounts are in several currencies: {pairs}; convert them to one"
    if percent and plain:
        return f"{percent:,} rows have a percent sign and {plain:,} have none; write all of them in one way"
    return ""


def _in_conflict(units: Mapping[str, int], dimensions: Iterable[str]) -> Quantity | None:
    if len(units) > 5 or any(dimension.startswith("word ") for dimension in dimensions):
        return None  # any texts that begin with a number
    names = ", ".join(f"'{name}' ({in_rows(n)})" for name, n in units.items())
    return Quantity("", "", {}, (), f"its units {names} cannot be converted into each other; write one unit")


def _without_m(rows: Counter[str], parts: Iterable[tuple[tuple[str, str], ...]]) -> Counter[str]:
    """Rows of each unit, where "m" beside others is what they make of it; alone it is not known."""
    beside = {unit for pairs in parts if any(name == "m" for _, name in pairs) for _, unit in pairs} - {"m", ""}
    m = rows.pop("m", 0)
    meaning = {"months": beside & _MONTHS, "minutes": beside & _MINUTES}
    meant = [name for name, others in meaning.items() if others]
    if m:
        rows[meant[0] if len(meant) == 1 else "m"] += m
    return rows


def _target(units: Counter[str], compound: bool) -> str:
    """The most frequent unit; of durations of several parts the smallest, but minutes rather than seconds."""
    if "m" in units or not units:
        return ""
    if not compound:
        return units.most_common(1)[0][0]
    smallest = min(units, key=lambda name: getattr(unit_named(name), "size", 0.0))
    return "minutes" if smallest == "seconds" else smallest


def _read(parts: Mapping[str, object], target: str, style: str) -> dict[str, float]:
    numbers = {text: read_quantity(text, target, NUMBER_READERS.get(style, _as_written)) for text in parts}
    return {text: float(number) for text, number in numbers.items() if number is not None}


def _as_written(text: str) -> str | None:
    return text if text.removeprefix("-").replace(".", "", 1).isdecimal() else None


def _questions(
    target: str, bare: int, units: Mapping[str, int], parts: Mapping[str, tuple[tuple[str, str], ...]]
) -> tuple[str, ...]:
    questions = []
    if bare:
        questions.append(f"{bare:,} rows have no unit and are read as {target}; is that right?")
    if len({(unit.dimension, unit.size) for name in units if (unit := unit_named(name)) is not None}) > 1:
        questions.append(f"{', '.join(units)} are converted to {target}; is that the unit to report in?")
    clock = next((text for text in parts if text.count(":") == 1), None)
    if clock is not None:
        questions.append(f"{clock.strip()!r} is read as hours and minutes; is that right?")
    return tuple(questions)
