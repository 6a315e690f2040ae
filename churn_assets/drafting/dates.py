"""Which date formats a column of texts is written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.contract.model import Column, Kind
from churn_assets.data.validation.parse import read_date

# In the order in which they win when several read the same texts. A day before a month comes first after
# dots, a month before a day after slashes; both are asked about.
FORMATS = (
    "%d.%m.%Y",
    "%d.%m.%y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y%m%d",
)
_TIMES = (" %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p")
_TWINS = {
    "%m/%d/%Y": "%d/%m/%Y",
    "%m/%d/%y": "%d/%m/%y",
    "%d-%m-%Y": "%m-%d-%Y",
    "%d.%m.%Y": "%m.%d.%Y",
    "%d.%m.%y": "%m.%d.%y",
}
_LOOKED_AT = 2_000  # different texts; formats that read these read the rest
_TRIED = 60  # of them, to find which formats are worth counting with
_YEARS = (1900, 2150)


@dataclass(frozen=True)
class Dates:
    """`formats` to declare (ISO 8601 needs none), the share of rows they read, and what is unclear."""

    formats: tuple[str, ...]
    share: float
    question: str


def find_formats(counts: Mapping[str, int]) -> Dates:
    """Formats that together read the most of `counts` (text -> rows), fewest first.

    Greedy: of the texts no format has read yet, the format that reads the most is added, until what is
    left is under one in a hundred rows or nothing reads it.
    """
    looked = dict(sorted(counts.items(), key=lambda item: -item[1])[:_LOOKED_AT])
    total = sum(looked.values())
    left = {text: rows for text, rows in looked.items() if not _reads("", text)}
    formats: list[str] = []
    unclear: list[str] = []
    while left and sum(left.values()) > 0.01 * total:
        few = list(left)[:: max(1, len(left) // _TRIED)]
        possible = [f for f in _candidates(left) if any(_reads(f, text) for text in few)]
        reads = {f: [t for t in left if _reads(f, t)] for f in possible}
        best = max(reads, key=lambda f: sum(left[t] for t in reads[f]), default="")
        if not best or not reads[best]:
            break
        twin = _twin(best)
        if twin and all(_reads(twin, text) for text in reads[best]):
            unclear.append(f"'{best}' or '{twin}'?")
        formats.append(best)
        left = {text: rows for text, rows in left.items() if text not in set(reads[best])}
    share = 1.0 - sum(left.values()) / total if total else 0.0
    question = f"day or month first, {' '.join(unclear)} Every date fits both." if unclear else ""
    return Dates(tuple(formats), share, question)


def _candidates(texts: Mapping[str, int]) -> list[str]:
    timed = any(":" in text for text in texts)
    return [f + time for f in FORMATS for time in (("", *_TIMES) if timed else ("",))]


def _twin(form: str) -> str:
    day, blank, time = form.partition(" %H") if " %H" in form else form.partition(" %I")
    twin = _TWINS.get(day, "")
    return f"{twin}{blank}{time}" if twin else ""


def _reads(form: str, text: str) -> bool:
    if form == "%Y%m%d" and len(text.strip()) != 8:
        return False  # strptime reads 20201 as the year 2020, month 1
    found = read_date(Column("", Kind.DATE, formats=(form,) if form else ()), text)
    return found is not None and _YEARS[0] <= found.year <= _YEARS[1]
