"""What each column of an unknown table is: its kind, how its cells are written, and what must be asked.

`guess_column` counts the spellings of a column and tries the kinds in this order: boolean, day of eight digits,
number (or a code, or an id), date, category. A column that is none of these is left out, with the reason.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Kind, Role
from churn_assets.data.id_names import IdName, id_name, is_row_number, split_name
from churn_assets.data.repairs.numbers import NUMBER_READERS
from churn_assets.data.repairs.repairs import SERIAL_ZERO
from churn_assets.data.validation.dates import read_day
from churn_assets.data.validation.parse import EXACT, as_text, canonical_number, folded_choice, read_date, read_number
from churn_assets.drafting.dates import DATE_NAME, find_day_number, find_formats
from churn_assets.drafting.quantities import find_quantity, mixed_marks
from churn_assets.errors import in_rows

MAX_CHOICES = 60
READABLE_SHARE = 0.9  # a column is a number or a date if this share of its cells reads so
_FEW_WORDS, _LEAST_SHARE = 5, 0.5  # or this share, and the others are so few texts that they mean missing

# Spellings of a missing value, in any case: the first never mean anything, so they are missing in every kind of
# column; the words may be an answer, so they are choices of a category and missing elsewhere.
_NOTHING = (
    r"na n/a n.a. n.a n/d s/d k.a. k.a #n/a #na null (null) <null> \n <na> nan nat ? - -- --- – — . .. ... "  # noqa: RUF001  # dashes
    "#div/0! #value! #ref! #name? #num! #null!"
)
NOTHING = frozenset(_NOTHING.split())
_WORDS = (
    "none/nil/unknown/missing/undefined/not available/not known/not specified/unspecified/keine angabe/unbekannt"
    "/inconnu/non renseigné/desconocido/sin dato/desconhecido/não informado/sconosciuto/onbekend/nieznany/brak danych"
    "/bilinmiyor/неизвестно/нет данных/未知/不明/미상"
)
WORDS = frozenset(_WORDS.split("/"))

CODE_NAME = re.compile(
    r"zip|postal|post_?code|plz|(^|[_\W])(code|branch|region|area|type|class|segment)($|[_\W])", re.I
)


@dataclass(frozen=True)
class Guess:
    """A column of the draft: a description of its values (`summary`), `why` it is left out, and `questions`.

    `distinct` counts different values, `rows` and `missing_rows` rows of the sample; `repair` names the
    repair its cells need.
    """

    column: Column
    summary: str
    distinct: int
    rows: int
    missing_rows: int = 0
    why: str = ""
    questions: tuple[str, ...] = ()
    repair: str = ""
    is_unique: bool = False  # or nearly: 999 of 1,000 rows have another value

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    def left_out(self, why: str) -> Guess:
        """The same column with role 'ignore', for this reason."""
        plain = Column(self.name, self.column.kind, Role.IGNORE)
        return replace(self, column=plain, why=why, questions=(), repair="")

    def refused(self, why: str) -> Guess:
        """The same column, left out because its cells can be read in several ways; a question asks for a repair."""
        question = "can that be repaired in the table? Until then the column is not used."
        return replace(self.left_out(why), questions=(question,))


def means_nothing(text: str) -> bool:
    """Whether a text is a spelling of a missing value in every kind of column.

    >>> means_nothing(" N/A "), means_nothing("None")
    (True, False)
    """
    return text.strip().casefold() in NOTHING


def may_be_missing(text: str) -> bool:
    """Whether a text is a spelling of a missing value in a column that is no category."""
    return means_nothing(text) or text.strip().casefold() in WORDS


def with_missing(guess: Guess, counts: Mapping[str, int], readable: Mapping[str, int]) -> Guess:
    """`guess` with the spellings of a missing value besides the empty cell."""
    odd = {text: n for text, n in counts.items() if text not in readable}
    known = tuple(sorted(t for t in odd if may_be_missing(t)))
    strange = sorted((t for t in odd if not may_be_missing(t)), key=lambda t: -odd[t])
    questions = guess.questions
    if 0 < len(strange) <= 10:
        known += tuple(strange)
        texts = ", ".join(repr(t) for t in strange[:5])
        questions += (f"{texts} ({in_rows(sum(odd[t] for t in strange))}) is read as missing; is that right?",)
    missing_rows = guess.missing_rows + sum(odd.values())
    column = replace(guess.column, missing=known, nullable=missing_rows > 0)
    return replace(guess, column=column, missing_rows=missing_rows, questions=questions)


def describe_choices(counts: Mapping[str, int]) -> str:
    """The most frequent values with their shares, for a comment."""
    total = sum(counts.values())
    top = sorted(counts.items(), key=lambda item: -item[1])[:4]
    shares = ", ".join(f"{value.strip()[:24]} {n / total:.1%}" for value, n in top)
    return shares + (f", and {len(counts) - 4} more" if len(counts) > 4 else "")


# -- one column -----------------------------------------------------------------------------------------

_MOST_SPELLINGS = 20  # of true and false, in upper and lower case
_TRUE_FALSE = (
    "yes/no true/false 1/0 y/n t/f on/off ja/nein oui/non si/no sí/no sim/não sim/nao да/нет tak/nie ja/nee "
    "evet/hayır 是/否 はい/いいえ"  # noqa: RUF001  # Turkish, not a look-alike
)
_TRUTH = {word: side == 0 for pair in _TRUE_FALSE.split() for side, word in enumerate(pair.split("/"))}
# Days that stand for no end or for nothing known: years that are no date's, and in eight digits.
_OPEN_END = re.compile(
    r"(?:9999|2999|3000)([-./]?)(?:01|12)\1(?:01|31)(?:[T ].*)?|(?:0001|1753)-01-01(?:[T ].*)?"
    r"|(?:31[-./]12|12[-./]31|0?1[-./]0?1)[-./](?:9999|2999|3000)(?: .*)?"
)
_NO_DAYS = frozenset((dt.date(1900, 1, 1), dt.date(1970, 1, 1), dt.date(2099, 12, 31), dt.date(2100, 1, 1)))
_FAR_YEARS = 5


def truth_of(text: str) -> bool | None:
    """What a text says in one of a dozen languages: yes, no, or None for neither."""
    return _TRUTH.get(canonical_number(text).lower())


def guess_column(name: str, cells: pa.ChunkedArray) -> Guess:
    """Guess one column from its cells, shape (rows,), of any Arrow type."""
    type_ = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    if pa.types.is_nested(type_) or pa.types.is_binary(type_):
        unread = Guess(Column(name, Kind.TEXT), "", 0, len(cells))
        return unread.left_out(f"its cells are of type {type_}, which no kind of the contract fits")
    counts, blank = _counted(cells)
    return _of_counts(name, type_, counts, len(cells), blank)


def _counted(cells: pa.ChunkedArray) -> tuple[Counter[str], int]:
    """(rows of each text, rows of blank or missing cells)."""
    blank, counts = 0, Counter[str]()
    # Counted as it is stored, and only then as text: a column of numbers has fewer values than cells.
    values, rows_of = pc.value_counts(cells).flatten()
    for text, rows in zip(as_text(values).to_pylist(), rows_of.to_pylist(), strict=True):
        if text is None or not text.strip():
            blank += rows
        else:
            counts[text] += rows
    return counts, blank


def _of_counts(name: str, type_: pa.DataType, counts: Mapping[str, int], rows: int, blank: int) -> Guess:
    base = Guess(Column(name, Kind.TEXT), "", len(counts), rows, blank)
    real = {value: n for value, n in counts.items() if not means_nothing(value)}
    if not real:
        return base.left_out("it is empty in every row")
    if len(real) == 1 and sum(real.values()) == rows:
        return base.left_out(f"it is {next(iter(real))!r} in every row")
    open_ends = {value for value in real if _OPEN_END.fullmatch(value.strip())}
    real = {value: n for value, n in real.items() if value not in open_ends} or real
    base = replace(base, is_unique=len(real) >= 0.999 * sum(real.values()) and len(real) > 20)
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return _with_dates(base, counts, (), "")
    kinds = (_as_boolean, _as_number_of_a_day, _as_number, _as_date, _as_quantity, _as_category)
    guesses = (guess_kind(base, counts, real) for guess_kind in kinds)
    return next(filter(None, guesses), None) or _left_out_as_text(base, real)


def _left_out_as_text(base: Guess, real: Mapping[str, int]) -> Guess:
    texts = len(real)
    if DATE_NAME.search(split_name(base.name)) and all(any(c.isdigit() for c in text) for text in real):
        example = next(iter(real)).strip()[:40]
        return base.refused(f"its name is that of a date, and {example!r} has no form that is read; write 2024-08-27")
    if base.is_unique:
        return base.left_out(f"{_each_other(base, 'text')} ({texts:,} different): an id or a name")
    limit = f"at most {MAX_CHOICES}, and 3 for 10 rows"
    return base.left_out(f"{texts:,} different texts in {base.rows:,} rows are too many for a category ({limit})")


def _each_other(base: Guess, noun: str) -> str:
    return f"{'every' if base.distinct == base.rows else 'nearly every'} row has another {noun}"


def _as_boolean(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    if len(real) > _MOST_SPELLINGS:
        return None
    lowered = Counter[str]()
    for value, n in real.items():
        lowered[canonical_number(value).lower()] += n
    meanings = {value: truth_of(value) for value in lowered}
    if set(meanings.values()) != {True, False}:
        return None
    true, false = (tuple(v for v, _ in lowered.most_common() if meanings[v] is side) for side in (True, False))
    column = replace(base.column, kind=Kind.BOOLEAN)
    if not (set(true) <= set(column.true) and set(false) <= set(column.false)):
        column = replace(column, true=true, false=false)
    same = f"{', '.join(true)} are read as yes, {', '.join(false)} as no; is that right?"
    questions = (same,) if len(lowered) > 2 else ()
    guess = replace(base, column=column, summary=describe_choices(real), questions=questions)
    return with_missing(guess, counts, real)


def _as_number_of_a_day(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    form = find_day_number(split_name(base.name), real)
    if not form:
        return None
    example = next(iter(real)).strip()
    meaning = f"is read as {read_day(example, (form,))} ({form})"
    question = f"{example} {meaning}; if the numbers are amounts, set kind = 'integer' and remove formats"
    return replace(_with_dates(base, counts, (form,), ""), questions=(question,))


def _as_date(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    if not any(ch.isdigit() for value in list(real)[:50] for ch in value):
        return None
    dates = find_formats(real)
    if dates.conflict:
        return base.refused(dates.conflict)
    unread = sum(read_day(text, dates.formats) is None for text in real) if dates.share >= _LEAST_SHARE else len(real)
    return (
        _with_dates(base, counts, dates.formats, dates.question) if _is_read(dates.share, unread, len(real)) else None
    )


def _is_read(share: float, unread: int, texts: int) -> bool:
    """Whether a column is of the kind in which this share of its rows, and all but `unread` of its texts, can be read:
    nearly all, or a few words stand among more numbers than a category has choices."""
    return share >= READABLE_SHARE or (share >= _LEAST_SHARE and unread <= _FEW_WORDS and texts - unread > MAX_CHOICES)


def _with_dates(base: Guess, counts: Mapping[str, int], formats: tuple[str, ...], question: str) -> Guess:
    column = replace(base.column, kind=Kind.DATE, formats=formats, role=Role.INPUT)
    days = {text: read_date(column, text) for text in counts}
    days |= dict.fromkeys(_no_days(days, counts))
    unread = {text: n for text, n in counts.items() if days[text] is None}
    known = [day for day in days.values() if day is not None]
    if not known:
        return base.left_out(f"{next(iter(counts))!r} and other days that stand for none are all that it has")
    if len(set(known)) == 1 and not unread and not base.missing_rows:
        return replace(base, column=column, summary=f"{known[0]} in every row", distinct=1)
    summary, questions = f"{min(known)} .. {max(known)}", (question,) if question else ()
    # Excel's day zero has a repair of its own, and is not one of the contract's spellings of missing.
    zero = sum(n for text, n in unread.items() if re.match(SERIAL_ZERO, text))
    plain = {text: n for text, n in counts.items() if not re.match(SERIAL_ZERO, text)}
    readable = {text: n for text, n in plain.items() if text not in unread}
    missing_rows = base.missing_rows + zero
    guess = replace(base, column=column, summary=summary, questions=questions, missing_rows=missing_rows)
    return with_missing(guess, plain, readable)


def _no_days(days: Mapping[str, dt.date | None], counts: Mapping[str, int]) -> list[str]:
    """Texts of days that stand for none: 9999-12-31, and such as 1900-01-01 if they are far from all others."""
    others = [
        day for text, day in days.items() if day and day not in _NO_DAYS and not _OPEN_END.fullmatch(text.strip())
    ]
    many = 0.005 * sum(counts.values())

    def is_far(day: dt.date) -> bool:
        return bool(others) and (day.year < min(others).year - _FAR_YEARS or day.year > max(others).year + _FAR_YEARS)

    marks = [text for text, day in days.items() if day in _NO_DAYS and counts[text] >= many and is_far(day)]
    return [*marks, *(text for text, day in days.items() if day and _OPEN_END.fullmatch(text.strip()))]


def _as_category(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    spellings: dict[str, Counter[str]] = {}
    for value, n in real.items():
        spellings.setdefault(folded_choice(value), Counter())[" ".join(value.split())] += n
        if len(spellings) > MAX_CHOICES:
            return None
    best = {max(plain, key=lambda text: plain[text]): plain.total() for plain in spellings.values()}
    if len(best) > max(2.0, 0.3 * sum(best.values())):
        return None
    questions = []
    variants = [text for plain in spellings.values() for text in plain if text not in best]
    if variants:
        questions.append(
            f"spellings that differ by case, width or '.0' are one choice: {_quoted(variants)} among the others. "
            "Is that right?"
        )
    rare = [value for value, n in best.items() if n < 5]
    if rare:
        questions.append(f"of the choices, {len(rare)} occur{'s' * (len(rare) == 1)} in fewer than 5 rows: mistakes?")
    unknowns = [value for value in best if value.casefold() in WORDS]
    if unknowns and (base.missing_rows or len(real) < len(counts)):
        questions.append(
            f"{_quoted(unknowns)} is a choice beside missing cells; if it means missing, move it to missing"
        )
    column = replace(base.column, kind=Kind.CATEGORY, choices=tuple(sorted(best)))
    guess = replace(base, column=column, summary=describe_choices(best), questions=tuple(questions))
    return with_missing(guess, counts, real)


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:5])) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


# -- numbers --------------------------------------------------------------------------------------------

_FEW_CODES = 8
_TRIED_NUMBERS = 300


def _as_number(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    """`base` as a number, an integer, or a category of numeric codes; None if its cells are not numbers. `counts` has
    the rows of each spelling, `real` those of spellings that are not a missing value."""
    texts = list(real)
    if not _may_be_numbers(texts):
        return None
    repair, values, share = _best_reading(real)
    if not _is_read(share, values.count(None), len(values)):
        return None
    readable = {text: n for text, value, n in zip(texts, values, real.values(), strict=True) if value is not None}
    conflict = mixed_marks(readable) if repair else ""
    if conflict:
        return base.refused(conflict)
    numbers = np.array([v for v in values if v is not None and math.isfinite(v)])
    weights = np.array([n for v, n in zip(values, real.values(), strict=True) if v is not None and math.isfinite(v)])
    if not len(numbers):
        return None
    whole = bool(np.all(numbers == np.floor(numbers)))
    if whole and np.abs(numbers).max() > EXACT:
        return base.left_out("whole numbers too long for a number: ids")
    coded = _coded(base, readable, whole, numbers)
    if coded is not None:
        return with_missing(coded, counts, readable)
    low, high = _bounds(numbers, base.name)
    column = replace(base.column, kind=Kind.INTEGER if whole else Kind.NUMBER, low=low, high=high)
    summary = f"{len(np.unique(numbers)):,} different, {numbers.min():g} .. {numbers.max():g}"
    infinite = {text for text, v in zip(texts, values, strict=True) if v in (math.inf, -math.inf)}
    questions = (*_number_questions(numbers, weights, whole, infinite), *_style_question(readable, repair))
    guess = replace(base, column=column, summary=summary, questions=questions, repair=repair)
    return with_missing(guess, counts, readable)


def _as_quantity(base: Guess, counts: Mapping[str, int], real: Mapping[str, int]) -> Guess | None:
    """`base` as a number with a unit; left out if its units are not of one quantity."""
    quantity = find_quantity(real)
    if quantity is None:
        return None
    if quantity.conflict:
        return base.refused(quantity.conflict)
    readable = {text: real[text] for text in quantity.numbers}
    if sum(readable.values()) < READABLE_SHARE * sum(real.values()):
        return None
    numbers = np.array(list(quantity.numbers.values()))
    low, high = _bounds(numbers, base.name)
    unit = quantity.convert_to
    column = replace(base.column, kind=Kind.NUMBER, low=low, high=high, convert_to=unit, unit=unit)
    summary = f"{len(np.unique(numbers)):,} different, {numbers.min():g} .. {numbers.max():g} {unit}"
    guess = replace(base, column=column, summary=summary, questions=quantity.questions, repair=quantity.repair)
    return with_missing(guess, counts, readable)


def _may_be_numbers(texts: Sequence[str]) -> bool:
    few = texts[:: max(1, len(texts) // _TRIED_NUMBERS)]
    ways = ("", *NUMBER_READERS)
    if sum(any(_number(text, repair) is not None for repair in ways) for text in few) < 0.5 * len(few):
        return False  # ids and free text, of which there may be very many, are not parsed one by one
    # 01234 is a code: as a number it would lose its zero
    return not any(re.fullmatch(r"\s*0\d+\s*", text) for text in texts)


def _best_reading(real: Mapping[str, int]) -> tuple[str, list[float | None], float]:
    """(repair with which most rows are numbers, '' for none; number of each text; share of rows that are numbers)."""
    texts, rows = list(real), np.array(list(real.values()), dtype=np.float64)
    readings = {"": [_number(text) for text in texts]}
    if None in readings[""]:
        readings |= {repair: [_number(text, repair) for text in texts] for repair in NUMBER_READERS}
    shares = {
        name: float(rows[np.array([v is not None for v in values])].sum() / rows.sum())
        for name, values in readings.items()
    }
    best = max(shares, key=lambda name: shares[name])  # the first of equals: no repair, if none is needed
    return best, readings[best], shares[best]


def _style_question(texts: Iterable[str], repair: str) -> tuple[str, ...]:
    """A question if each of `texts` is a number in both styles, and not the same in some."""
    if not repair:
        return ()
    other = next(name for name in NUMBER_READERS if name != repair)
    pairs = {text: (_number(text, repair), _number(text, other)) for text in texts}
    differ = [text for text, (number, another) in pairs.items() if number != another]
    if not differ or any(another is None for _, another in pairs.values()):
        return ()
    number, another = pairs[differ[0]]
    return (f"{differ[0].strip()!r} is read as {number:g}; if it is {another:g}, write '{other}' in [source] repairs.",)


def _coded(base: Guess, readable: Mapping[str, int], whole: bool, numbers: npt.NDArray[np.float64]) -> Guess | None:
    """Whole numbers that are not amounts: a row number, an id, or a code."""
    if not whole:
        return None
    named = id_name(base.name)
    runs = len(numbers) > 20 and numbers.max() - numbers.min() < 3 * len(numbers)
    if base.is_unique and (named is not None or runs or is_row_number(base.name)):
        return base.left_out(f"{_each_other(base, 'number')}: an id, or the row number")
    is_id = named is not None and named not in (IdName.NUMBER, IdName.PERSON_ALONE)  # week_number, accounts
    if not (CODE_NAME.search(split_name(base.name)) or is_id):
        return None
    if len(readable) > MAX_CHOICES:
        is_amount = not is_id and len(numbers) > 0.5 * sum(readable.values())
        too_many = f"{len(readable):,} values are too many for a category"
        return None if is_amount else base.left_out(f"its name is that of a code or id, and {too_many}")
    choices = tuple(sorted(set(map(canonical_number, readable)), key=float))  # 1.0 in one file is 1 in another
    column = replace(base.column, kind=Kind.CATEGORY, choices=choices)
    amount = "if it is an amount, set kind = 'integer' and remove choices"
    question = f"its name is that of a code, so each number is a choice; {amount}"
    return replace(base, column=column, summary=describe_choices(readable), questions=(question,))


def _number(text: str, repair: str = "") -> float | None:
    """The number that `text` is after this repair, '' for none; None if it is not one."""
    plain = NUMBER_READERS[repair](text) if repair else None
    value = read_number(Column("", Kind.NUMBER), text if plain is None else plain)
    return None if value is None or math.isnan(value) else value


def _bounds(numbers: npt.NDArray[np.float64], name: str) -> tuple[float | None, float | None]:
    """Inclusive bounds with room: without negative values the lower bound is 0, a share stays within 0 and 1."""
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


def _number_questions(
    numbers: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], whole: bool, infinite: set[str]
) -> tuple[str, ...]:
    questions = []
    if infinite:
        questions.append(f"{', '.join(sorted(infinite))} is infinite; such rows are rejected")
    values = np.unique(numbers)
    if whole and len(values) <= _FEW_CODES and np.array_equal(values, np.arange(values[0], values[0] + len(values))):
        questions.append("a count or a code? For a code set kind = 'category' and choices = [...] instead of bounds")
    for odd in (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0):
        here = int(rows[numbers == odd].sum())
        if here >= 0.005 * rows.sum() and _lies_apart(odd, values[values != odd]):
            questions.append(f"does {odd:g} ({in_rows(here)}) mean missing? Then write missing = ['{odd:g}']")
    return tuple(questions)


def _lies_apart(odd: float, others: npt.NDArray[np.float64]) -> bool:
    if len(others) < 3:
        return False
    low, high = others.min(), others.max()
    return bool(odd < 0 <= low or (odd > high and odd - high > high - low))
