"""Numbers with units ("12 months", "3.5 GB", "2y 3m", "01:30:00") as numbers of one unit, the column's `convert_to`.

A month is a twelfth of a year of 365.25 days; kB, MB, ... are powers of 1000, KiB, MiB, ... of 1024. A word that is not
listed here, such as "calls", is a unit of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from churn_assets.contract.values import without_accents

Parts = tuple[tuple[str, str], ...]  # a number as it is written, and its unit: "" for none, "m" for minutes or months
ReadNumber = Callable[[str], str | None]


@dataclass(frozen=True)
class Unit:
    """A unit: its size in the base of its dimension, which is the unit itself for a word that is not listed."""

    name: str
    dimension: str
    size: float = 1.0


_TIME: Mapping[str, tuple[float, str]] = {  # seconds, and spellings
    "seconds": (1, "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos secondo secondi"),
    "minutes": (60, "min mins minute minutes minuten minuto minutos minuti мин"),
    "hours": (3600, "h hr hrs hour hours std stunde stunden heure heures hora horas ora ore час часа часов"),
    "days": (86_400, "d day days tag tage tagen jour jours dia dias giorno giorni день дня дней дн"),
    "weeks": (604_800, "w wk wks week weeks woche wochen semaine semaines semana semanas settimana settimane"),
    "months": (
        2_629_800,
        "mo mos mth mths month months monat monate monaten mois mes meses mese mesi месяц месяца месяцев мес",
    ),
    "years": (31_557_600, "y yr yrs year years jahr jahre jahren an ans annee annees ano anos anno anni год года лет"),
}  # fmt: skip
_OTHERS: Mapping[str, Mapping[str, tuple[float, str]]] = {
    "data": {
        **{name: (1000.0**power, name) for power, name in enumerate(("B", "kB", "MB", "GB", "TB", "PB"))},
        **{name: (1024.0**power, name) for power, name in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)},
    },
    "data rate": {name: (1000.0**power, name) for power, name in enumerate(("bps", "kbps", "Mbps", "Gbps"))},
    "length": {
        "mm": (1e-3, "mm"),
        "cm": (1e-2, "cm"),
        "km": (1e3, "km"),
        "mi": (1609.344, "mi miles"),
        "ft": (0.3048, "ft"),
    },
    "mass": {"kg": (1.0, "kg"), "lb": (0.45359237, "lb lbs")},
    "energy": {name: (1000.0**power, name) for power, name in enumerate(("Wh", "kWh", "MWh", "GWh"))},
    "volume": {"ml": (1e-3, "ml"), "L": (1.0, "l litre litres liter liters")},
}


_UNITS: Mapping[str, Unit] = {
    without_accents(spelling): Unit(name, dimension, size)
    for dimension, units in {"time": _TIME, **_OTHERS}.items()
    for name, (size, spellings) in units.items()
    for spelling in spellings.split()
}
_SHORT = {"s", "b", "l"}  # too short to be taken for units alone: 20s is a decade, 3B a flat
_NUMBER = r"\d+(?:[.,'\u2019\u00a0\u202f]\d+)*"
_PART = re.compile(rf"({_NUMBER})\s*([^\W\d_]+)?\.?")
_BETWEEN = re.compile(r"\s*(?:,|\+|and|und|et|y|e)?\s*", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:(\d+)\s*(?:d|days?|tage?|jours?)?,?\s+)?(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", re.IGNORECASE
)
_ISO = re.compile(
    "P(?=[0-9T])" + "".join(rf"(?:(\d+(?:\.\d+)?){letter})?" for letter in "YMWD")
    + "(?:T" + "".join(rf"(?:(\d+(?:\.\d+)?){letter})?" for letter in "HMS") + ")?"
)  # fmt: skip
_ISO_UNITS = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")


def unit_named(name: str) -> Unit | None:
    """The unit of a word in any spelling; a word of two letters or more that is not known is a unit of its own."""
    word = without_accents(name.strip().removesuffix("."))
    if word in _UNITS:
        return _UNITS[word]
    return Unit(name, f"word {word.removesuffix('s')}") if len(word) > 1 and word.isalpha() else None


@lru_cache(maxsize=4096)
def split_quantity(text: str) -> Parts | None:
    """The numbers of a text with their units, None if it is of another form. A sign is that of all of them.

    >>> split_quantity("-2y 3m"), split_quantity("3.5 GB"), split_quantity("12 Main St")
    ((('-2', 'years'), ('-3', 'm')), (('3.5', 'GB'),), None)
    """
    plain = text.strip().replace("\u2212", "-")
    sign, plain = ("-", plain[1:].lstrip()) if plain[:1] == "-" else ("", plain)
    for pattern, names in ((_CLOCK, _ISO_UNITS[3:]), (_ISO, _ISO_UNITS)):
        match = pattern.fullmatch(plain)
        if match is not None:
            named = [(number, name) for number, name in zip(match.groups(), names, strict=True) if number]
            return tuple((f"{sign}{number}", name) for number, name in named) or None
    pairs: list[tuple[str, str]] = []
    at = 0
    while at < len(plain):
        match = _PART.match(plain, at)
        if match is None or (pairs and not match[2]):
            return None
        pairs.append((f"{sign}{match[1]}", match[2] or ""))
        between = _BETWEEN.match(plain, match.end())
        at = match.end() if between is None else between.end()
    if not pairs or (len(pairs) == 1 and pairs[0][1].casefold() in _SHORT):
        return None
    parts = tuple((number, unit) for number, word in pairs if (unit := _unit_of_part(word)) is not None)
    return parts if len(parts) == len(pairs) else None


def _unit_of_part(word: str) -> str | None:
    if word.casefold() in ("", "m"):
        return word.casefold()
    unit = unit_named(word)
    return None if unit is None else unit.name


def read_quantity(text: str, unit: str, read_number: ReadNumber) -> str | None:
    """The number of `unit` that a text means, a number without a unit being one of `unit`; None for another text, or a
    unit that cannot be converted."""
    parts, target = split_quantity(text), unit_named(unit)
    if parts is None or target is None:
        return None
    numbers = [read_number(number) for number, _ in parts]
    units = [_named_m(name, target) if name == "m" else unit_named(name or unit) for _, name in parts]
    total = 0.0
    for number, own in zip(numbers, units, strict=True):
        if number is None or own is None or own.dimension != target.dimension:
            return None
        total += float(number) * own.size
    if len(parts) == 1 and units[0] is not None and units[0].size == target.size:
        return numbers[0]  # as it is written, without an error of rounding
    return repr(round(total / target.size, 9))


def _named_m(name: str, target: Unit) -> Unit | None:
    """ "m" beside years is months, beside hours minutes: the unit of the column says which."""
    if target.dimension != "time":
        return None
    return _UNITS["months" if target.size >= _UNITS["days"].size else "minutes"]
