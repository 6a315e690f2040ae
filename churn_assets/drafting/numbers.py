"""Columns of numbers: how they are written, what they range over, and whether they are numbers at all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from churn_assets.contract.model import Column, Kind
from churn_assets.data.repairs.numbers import READERS
from churn_assets.data.validation.parse import read_number
from churn_assets.drafting.guess import (
    CODE_NAME,
    ID_NAME,
    MAX_CHOICES,
    READABLE_SHARE,
    Guess,
    seen_choices,
    with_missing,
    words_of,
)

_EXACT = 2**53  # whole numbers beyond it are not told apart by float64
_FEW_CODES = 8
_TRIED = 300


def as_number(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    """`base` as a number, an integer, or a category of numeric codes; None if its cells are no numbers.

    `counts` has the rows of each spelling, `real` those that mean something.
    """
    texts = list(real)
    few = texts[:: max(1, len(texts) // _TRIED)]
    if sum(_reads(text) for text in few) < 0.5 * len(few):
        return None  # ids and free text, of which there may be very many, are not read one by one
    if any(re.fullmatch(r"\s*0\d+\s*", text) for text in texts):
        return None  # 01234 is a code: as a number it would lose its zero
    repair, values, share = _best_reading(real)
    if share < READABLE_SHARE:
        return None
    readable = {text: n for text, value, n in zip(texts, values, real.values(), strict=True) if value is not None}
    numbers = np.array([v for v in values if v is not None and math.isfinite(v)])
    weights = np.array([n for v, n in zip(values, real.values(), strict=True) if v is not None and math.isfinite(v)])
    if not len(numbers):
        return None
    whole = bool(np.all(numbers == np.floor(numbers)))
    if whole and np.abs(numbers).max() > _EXACT:
        return base.left_out("whole numbers too long to be told apart as numbers: ids")
    coded = _coded(base, readable, whole, numbers)
    if coded is not None:
        return with_missing(coded, counts, readable)
    low, high = bounds(numbers, base.name)
    column = replace(base.column, kind=Kind.INTEGER if whole else Kind.NUMBER, low=low, high=high)
    seen = f"{len(np.unique(numbers)):,} different, {numbers.min():g} .. {numbers.max():g}"
    infinite = {text for text, v in zip(texts, values, strict=True) if v in (math.inf, -math.inf)}
    asked = _questions(numbers, weights, whole, infinite)
    return with_missing(replace(base, column=column, seen=seen, questions=asked, repair=repair), counts, readable)


def _best_reading(real: Mapping[str, int]) -> tuple[str, list[float | None], float]:
    """(repair by which most rows read as numbers, '' for none; what each text reads as; share of rows read)."""
    texts, rows = list(real), np.array(list(real.values()), dtype=np.float64)
    found = {"": [_plain(text) for text in texts]}
    if None in found[""]:
        found |= {name: [_rewritten(read, text) for text in texts] for name, read in READERS.items()}
    shares = {
        name: float(rows[np.array([v is not None for v in values])].sum() / rows.sum())
        for name, values in found.items()
    }
    best = max(shares, key=lambda name: shares[name])  # the first of equals: no repair, if none is needed
    return best, found[best], shares[best]


def _reads(text: str) -> bool:
    return _plain(text) is not None or any(_rewritten(read, text) is not None for read in READERS.values())


def _coded(base: Guess, readable: Mapping[str, int], whole: bool, numbers: npt.NDArray[np.float64]) -> Guess | None:
    """Whole numbers that name things: a row's number or id, or a code."""
    if not whole:
        return None
    words = words_of(base.name)
    runs = len(numbers) > 20 and numbers.max() - numbers.min() < 3 * len(numbers)
    if base.is_unique and (ID_NAME.search(words) or runs):
        return base.left_out("every row has a number of its own: an id, or the number of the row")
    if not (CODE_NAME.search(words) or ID_NAME.search(words)):
        return None
    if len(readable) > MAX_CHOICES:
        if CODE_NAME.search(words) and not ID_NAME.search(words) and len(numbers) > 0.5 * sum(readable.values()):
            return None
        return base.left_out(
            f"its name says code or id, and {len(readable):,} different ones are too many for a category"
        )
    choices = tuple(sorted(readable, key=float))
    column = replace(base.column, kind=Kind.CATEGORY, choices=choices)
    asked = "its name says code, so each number is a choice; if it is an amount, set kind = 'integer' and drop choices"
    return replace(base, column=column, seen=seen_choices(readable), questions=(asked,))


def _plain(text: str) -> float | None:
    value = read_number(Column("", Kind.NUMBER), text)
    return None if value is None or math.isnan(value) else value


def _rewritten(read: Callable[[str], str | None], text: str) -> float | None:
    plain = read(text)
    return _plain(text if plain is None else plain)


def bounds(numbers: npt.NDArray[np.float64], name: str) -> tuple[float | None, float | None]:
    """Inclusive bounds with room: what never was negative stays so, a share stays within 0 and 1."""
    low, high = float(numbers.min()), float(numbers.max())
    if low >= 0.0 and high <= 1.0 and not np.all(numbers == np.floor(numbers)):
        return 0.0, 1.0
    if low >= 0.0 and high <= 100.0 and re.search(r"percent|pct|rate|share|prozent|%", name, re.I):
        return 0.0, 100.0
    room = max(high - low, abs(high), abs(low), 1.0)
    return (0.0 if low >= 0.0 else -_round_up(room - low)), _round_up(high + room)


def _round_up(value: float) -> float:
    """The next number with one digit and zeros after it (1, 2, 5 times a power of ten)."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)


def _questions(
    numbers: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], whole: bool, infinite: set[str]
) -> tuple[str, ...]:
    asked = []
    if infinite:
        asked.append(f"{', '.join(sorted(infinite))} stands for no number; such rows are rejected")
    values = np.unique(numbers)
    if whole and len(values) <= _FEW_CODES and np.array_equal(values, np.arange(values[0], values[0] + len(values))):
        asked.append("a count or a code? Of a code say kind = 'category' and choices = [...] instead of bounds")
    for odd in (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0):
        rest = values[values != odd]
        here = int(rows[numbers == odd].sum())
        if len(rest) < 3 or here < 0.005 * rows.sum():
            continue
        spread = float(rest.max() - rest.min())
        negative = odd < 0 <= rest.min()
        if negative or (odd > rest.max() and odd - rest.max() > spread):
            asked.append(f"does {odd:g} ({here:,} rows) mean missing? Then write missing = ['{odd:g}']")
    return tuple(asked)
