"""Which formats the dates of an unknown column have, and what must be asked about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.contract.values import DAY_NUMBERS, QUARTER
from churn_assets.data.validation.dates import read_day

DATE_NAME = re.compile(
    r"date|day|datum|fecha|(^|_)(dt|at|on|data|ym|dob)$|since|tag($|_)|join|sign_?(up|ed)|creat|regist|epoch|timestamp"
    r"|serial|birth|expir|renew|activat|onboard|enrol|beginn|eintritt|alta|(^|_)(start|begin|open|clos)(ed)?($|_)"
    r"|(^|_)(month|period|last_(login|order|visit|seen|purchase|payment))$",
    re.I,
)
_AMOUNT_NAME = re.compile(
    r"amount|count|num|total|sum|spend|price|fee|salar|income|balance|days|months|years|hours|minutes|rate|code|(^|_)id$"
    r"|value|charge|revenue|avg|mean|usage",
    re.I,
)

# Of several formats that read the same texts the first is used. With dots the day comes before the month, with
# slashes the month before the day; both are asked about.
_DIGITS = ("%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d")
_WITH_DASHES = ("%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%B-%Y", "%d-%b-%y", "%Y-%b-%d")
_WITH_NAMES = (
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%B %d %Y",
    "%d %b %y",
    "%d/%b/%Y",
    "%b %d %H:%M:%S %Y",
)
_EAST_ASIAN = ("%Y年%m月%d日", "%Y年%m月", "%Y년 %m월 %d일", "%Y년 %m월", "%Y. %m. %d.")
_MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%m.%Y", "%b %Y", "%B %Y", "%b-%Y", "%B-%Y", "%b/%Y", "%Y %b", "%Y-%b")
_SHORT_MONTHS = ("%b-%y", "%b %y", "%B %y")
FORMATS = (*_DIGITS, *_WITH_DASHES, *_WITH_NAMES, "%Y%m%d", *_EAST_ASIAN, *_MONTHS, *_SHORT_MONTHS, QUARTER)
_TIMES = (" %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S %z")
_MAX_TEXTS = 2_000  # different texts; formats that read these read the rest
_TRIED_DATES = 60  # of them, to find which formats are worth counting with
_YEARS = (1900, 2150)
# Of a number: a narrower range, because any amount may be meant. A small one is a moment of 1970 in every epoch.
_NUMBER_YEARS, _EPOCH_YEARS = (1955, 2100), (1980, 2100)
_SURE = 0.999


@dataclass(frozen=True)
class Dates:
    """`formats` to declare (ISO 8601 needs none), the share of rows that they read, a question if two fit.

    `conflict` says why the column cannot be read: its formats disagree on what is the day and what the month.
    """

    formats: tuple[str, ...]
    share: float
    question: str
    conflict: str = ""


def find_formats(counts: Mapping[str, int]) -> Dates:
    """Formats that together read the most of `counts` (text -> rows), fewest first.

    Greedy: the format that reads the most of the unread texts is added, until fewer than one in a hundred rows
    are unread or no format reads any.
    """
    counted = dict(sorted(counts.items(), key=lambda item: -item[1])[:_MAX_TEXTS])
    total = sum(counted.values())
    left = {text: rows for text, rows in counted.items() if not _date_reads("", text)}
    formats: list[str] = []
    ambiguous: list[str] = []
    while left and sum(left.values()) > 0.01 * total:
        best, texts = _best_format(left)
        if not texts:
            break
        twin = _twin(best)
        if twin in formats:
            return Dates((), 1.0, "", _conflict(twin, best, counted, texts))
        if twin and all(_date_reads(twin, text) for text in texts):
            ambiguous.append(f"'{best}' or '{twin}'?")
        formats.append(best)
        left = {text: rows for text, rows in left.items() if text not in texts}
    share = 1.0 - sum(left.values()) / total if total else 0.0
    question = f"day or month first, {' '.join(ambiguous)} Every date fits both formats." if ambiguous else ""
    short = next(
        (text for text in counted for form in set(formats) & set(_SHORT_MONTHS) if _date_reads(form, text)), ""
    )
    if short:
        question = f"a date such as {short.strip()!r} is read as a month and a year; is that right?"
    return Dates(tuple(formats), share, question)


def find_day_number(name: str, counts: Mapping[str, int]) -> str:
    """The format by which the numbers of a column with the name of a date are days: 20240306, 202403, 06032024, an
    Excel serial or time since 1970; '' if they are not."""
    if not DATE_NAME.search(name) or _AMOUNT_NAME.search(name) or not all(_is_number(text) for text in counts):
        return ""
    total = sum(counts.values())
    for form in ("%Y%m%d", "%Y%m", "%d%m%Y", "%m%d%Y", *DAY_NUMBERS):
        years = _YEARS if form == "%Y%m%d" else _EPOCH_YEARS if form.startswith("epoch") else _NUMBER_YEARS
        reads = sum(rows for text, rows in counts.items() if not _is_iso(text) and _date_reads(form, text, years))
        if reads >= _SURE * total:
            return form
    return ""


def _is_iso(text: str) -> bool:
    return read_day(text, ()) is not None


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*\d+(\.\d+)?\s*", text))


def _best_format(left: Mapping[str, int]) -> tuple[str, set[str]]:
    """(the format that reads the most rows of `left`, the texts that it reads); no texts if none reads any."""
    few = list(left)[:: max(1, len(left) // _TRIED_DATES)]
    times = ("", *_TIMES) if any(":" in text for text in left) else ("",)
    candidates = [day + time for day in FORMATS for time in times if not (time and "%H" in day)]
    possible = [f for f in candidates if any(_date_reads(f, text) for text in few)]
    reads = {f: {t for t in left if _date_reads(f, t)} for f in possible}
    best = max(reads, key=lambda f: sum(left[t] for t in reads[f]), default="")
    return best, reads.get(best, set())


def _twin(form: str) -> str:
    """The format with day and month exchanged, '' if it is not one of numbers with the year at the end."""
    if not re.match(r"%[dm][./-]%[dm][./-]%[yY]", form):
        return ""
    return form.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")


def _conflict(first: str, second: str, counts: Mapping[str, int], only_second: set[str]) -> str:
    only_first = next(text for text in counts if _date_reads(first, text) and not _date_reads(second, text))
    both = sum(rows for text, rows in counts.items() if _date_reads(first, text) and _date_reads(second, text))
    return (
        f"day and month stand in both orders ({only_first!r}, {min(only_second)!r}), so {both:,} rows can be read in "
        "two ways; write all dates in one order, such as 2024-08-27"
    )


def _date_reads(form: str, text: str, years: tuple[int, int] = _YEARS) -> bool:
    day = read_day(text, (form,) if form else ())
    return day is not None and years[0] <= day.year <= years[1]
