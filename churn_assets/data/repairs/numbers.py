"""Numbers as people write them, in one of two styles: a decimal comma, or a decimal point with other marks."""

from __future__ import annotations

import re
from decimal import Decimal

_SIGN, _GAPS = "[-+]?", " \u00a0\u202f'\u2019"
_COMMA = re.compile(rf"{_SIGN}(?:\d+|[1-9]\d{{0,2}}(?:[.{_GAPS}]\d{{3}})+)(?:,\d*)?")
_INDIAN = r"[1-9]\d?(?:,\d{2})+,\d{3}"  # 12,34,567
_POINT = re.compile(rf"{_SIGN}(?:\d+|[1-9]\d{{0,2}}(?:[,{_GAPS}]\d{{3}})+|{_INDIAN})(?:\.\d*)?")
_MONEY = r"[A-Z]{1,2}\$|[$€£¥₹₽₩₺₴₪฿₫₱₦]|Rs\.?|kr\.?"
_BEFORE = re.compile(rf"[-+]?(?P<mark>[A-Z]{{3}}(?=[\s\d(])|{_MONEY})")
_AFTER = re.compile(rf"(?P<mark>%|{_MONEY}|(?<=[\s\d)])[A-Z]{{3}}|zł|Kč|Ft|руб\.?)$")  # noqa: RUF001  # roubles
_THOUSANDS = {"k": 3, "m": 6, "mn": 6, "mln": 6, "mio": 6, "b": 9, "bn": 9, "mrd": 9}
_MAGNITUDE = re.compile(r"(?<=\d)\s?(K|k|M|mn|mln|Mio\.?|B|bn|Mrd\.?)$")


def from_comma(text: str) -> str | None:
    """A number with a decimal comma (dots are thousands separators) as one with a point; None for other text.

    >>> from_comma("1.234,5"), from_comma("(12,5 €)"), from_comma("12.50")
    ('1234.5', '-12.5', None)
    """
    plain, power = _plain(text)
    if not _COMMA.fullmatch(plain):
        return None
    return _scaled(re.sub(rf"[.{_GAPS}]", "", plain).replace(",", "."), power)


def from_marks(text: str) -> str | None:
    """A number without currency, percent sign, thousands separators and K, M or B; None for other text. In parentheses,
    or with its minus behind it, it is negative.

    >>> [from_marks(text) for text in ("$1,234.50", "45 %", "(1,200)", "16.2K", "₹1,23,456", "about 3")]
    ['1234.50', '45', '-1200', '16200', '123456', None]
    """
    plain, power = _plain(text)
    return _scaled(re.sub(rf"[,{_GAPS}]", "", plain), power) if _POINT.fullmatch(plain) else None


# Where both read a text, the first is meant: 1,234 is rather a thousand than one and a quarter.
NUMBER_READERS = {"number_marks": from_marks, "decimal_comma": from_comma}


def marks_of(text: str) -> frozenset[str]:
    """The currencies and the percent sign of a number.

    >>> sorted(marks_of("-$5")), sorted(marks_of("45%")), sorted(marks_of("5"))
    (['$'], ['%'], [])
    """
    return frozenset(_without_marks(text)[1])


def _plain(text: str) -> tuple[str, int]:
    """(`text` as a bare number with its minus in front, the power of ten that a K, M or B behind it means)."""
    plain = _without_marks(text)[0]
    magnitude = _MAGNITUDE.search(plain)
    if magnitude is None:
        return plain, 0
    return plain[: magnitude.start()], _THOUSANDS[magnitude[1].rstrip(".").lower()]


def _without_marks(text: str) -> tuple[str, set[str]]:
    plain, negative, marks = text.strip().replace("\u2212", "-"), False, set[str]()
    while True:
        mark = _BEFORE.match(plain) or _AFTER.search(plain)
        if mark is not None and len(marks) < 2:  # a currency before and a percent sign after
            marks.add(mark["mark"].rstrip("."))
            plain = (plain[: mark.start("mark")] + plain[mark.end("mark") :]).strip()
        elif plain[:1] == "(" and plain[-1:] == ")" and not negative:
            plain, negative = plain[1:-1].strip(), True
        elif plain[-1:] == "-" and not negative:
            plain, negative = plain[:-1].strip(), True
        else:
            return f"-{plain}" if negative else re.sub(r"^([-+])\s+", r"\1", plain), marks


def _scaled(number: str, power: int) -> str:
    return format(Decimal(number.removesuffix(".")).scaleb(power), "f") if power else number
