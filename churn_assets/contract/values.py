"""Single values as every way in reads them: the text of a cell, the id of a customer, the day of an instant."""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata

from churn_assets.errors import has_controls

MAX_ID, MAX_INSTANT = 200, 40  # characters of an id, of a day or instant in ISO 8601

# Formats of dates that are numbers: units of time since 1970 in a second, and days of Excel's 1900 system.
DAY_NUMBERS = {
    "excel_serial": 0.0,
    "epoch_seconds": 1.0,
    "epoch_milliseconds": 1e3,
    "epoch_microseconds": 1e6,
    "epoch_nanoseconds": 1e9,
}

QUARTER = "quarter"  # the format of dates such as Q3 2023 and 2023-Q3, which strptime has not

# The exponent needs its sign, as spreadsheets write it (9.69E+10): 99E568 may well be an id.
NUMERIC_ID = r"[0-9]+(?:\.[0-9]+)?(?:[eE]\+[0-9]+)?"
_TOO_LONG = 10**MAX_ID
_NUMERIC_ID = re.compile(NUMERIC_ID)
_UTC_NAME, _APART = re.compile(r"\s*(?:UTC|GMT)$"), re.compile(r"\s+(?=[+-]\d\d(?::?\d\d)?$)")


def canonical_text(value: object) -> str:
    """A cell or a TOML value as text: whole floats without a point, booleans lower case, dates ISO 8601."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return str(value)


def without_accents(text: str) -> str:
    """A word as it is compared: in lower case, without accents.

    >>> without_accents("MÄRZ"), without_accents("août")
    ('marz', 'aout')
    """
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


def is_id(text: str) -> bool:
    """Whether a text can be an id of the world outside: not blank, not too long, without control characters."""
    return len(text) <= MAX_ID and bool(text.strip()) and not has_controls(text)


def canonical_id(value: object) -> str | None:
    """The id that a cell or a JSON value names, the same on every way in; None if it can be no id.

    Blanks around it do not count; a whole number is its digits, also where a spreadsheet has added `.0` or an exponent;
    zeros before it belong to it.

    >>> [canonical_id(value) for value in (12345, 12345.0, " 12345 ", "12345.0", "1.2345E+4", "00123", "C7 ", 1.5)]
    ['12345', '12345', '12345', '12345', '12345', '00123', 'C7', None]
    """
    if type(value) is str and value.isalnum() and len(value) <= MAX_ID:
        return value  # nearly every id, and requests are many: no blank, point or control character
    if not isinstance(value, str):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if not whole or isinstance(value, bool) or abs(value) >= _TOO_LONG:  # type: ignore[arg-type]  # a number
            return None
        value = canonical_text(value)
    text = value.strip()
    if ("." in text or "+" in text) and _NUMERIC_ID.fullmatch(text):
        text = plain_digits(text)
    return text if is_id(text) else None


def plain_digits(text: str) -> str:
    """A text of the pattern NUMERIC_ID without a fraction of zeros and without an exponent, where it is whole."""
    whole, _, fraction = text.partition(".")
    if "e" not in text.lower():
        return whole if fraction.strip("0") == "" else text
    number = float(text)
    return str(int(number)) if math.isfinite(number) and number.is_integer() and number < 1e22 else text


def utc_day(instant: dt.datetime) -> dt.date:
    """The UTC day of an instant; one without a time zone keeps its own day. So does one whose UTC day is before year 1
    or after 9999, because such dates mean "none"."""
    if instant.tzinfo is None:
        return instant.date()
    try:
        return instant.astimezone(dt.UTC).date()
    except OverflowError:
        return instant.date()


def iso_day(text: str) -> dt.date | None:
    """The day (see `utc_day`) of a day or instant in ISO 8601, whose time zone may also stand apart or be UTC or GMT;
    None for another text.

    >>> iso_day("2024-03-06T23:30:00-05:00"), iso_day("2024-03-06 23:30:00 UTC"), iso_day("6 March")
    (datetime.date(2024, 3, 7), datetime.date(2024, 3, 6), None)
    """
    try:
        return utc_day(dt.datetime.fromisoformat(text))
    except ValueError:
        plain = _APART.sub("", _UTC_NAME.sub("+00:00", text))
        return None if plain == text else iso_day(plain)
