"""Rows of an unknown table that are no customers: units or descriptions below the header, a header in the middle (of
exports put together), totals, means, and notes at the end.

The draft is made without them and asks about them. `churn run` reads them with the others and rejects each of them: its
label is none of the label's values, or it has texts where the others have numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.data.validation.parse import as_text, to_numpy
from churn_assets.drafting.columns import may_be_missing
from churn_assets.drafting.sample import Sample

Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

_DESCRIBING = 3  # rows below the header that may describe the columns: in words, by units, by types
_COMPARED = 300  # rows below those, which show where numbers stand
_NUMBERS_SHARE = 0.95
_LAST = 6  # rows at the end of which some may be means
_RARE = 0.005  # share of the rows: a label that is more frequent is a state of customers
_SAME_SUM = 1e-4  # relative: the sum of rounded numbers, or the rounded sum
_NUMBER = r"^[^\p{L}]*\d[^\p{L}]*$"  # digits and no letter: 1,234.50, 45 %, 03/12/2024
_TOTAL = (
    r"^(grand|sub)?[ -]?(totals?|sum|summe|gesamt(summe)?|insgesamt|somme|suma|soma|totale|totaal|total g[eé]n[eé]ral"
    r"|итого|всего|合計|总计|合计|총계|합계|toplam|razem|celkem)\s*:?$"
)
_MEAN = (
    r"^(averages?|avg\.?|means?|median|min(imum)?|max(imum)?|std(ev)?\.?|durchschnitt|mittelwert|moyenne|promedio"
    r"|m[eé]dia|gemiddelde|среднее|平均|평균|ortalama|średnia)\s*:?$"
)


@dataclass(frozen=True)
class _Kind:
    """The rows of one kind, and what one or several of them are, in words."""

    rows: Sequence[int]
    singular: str
    plural: str

    @property
    def question(self) -> str:
        if len(self.rows) == 1:
            return f"1 row {self.singular}, so it is rejected and sets no range. Is that right?"
        return f"{len(self.rows):,} rows {self.plural}, so they are rejected and set no range. Is that right?"


def without_other_rows(sample: Sample, label: str) -> Sample:
    """`sample` without its rows that are no customers, with a question for each kind of them: no range, choice, id or
    label value of a draft follows such a row."""
    table = sample.table
    taken, questions = set[int](), list[str]()
    for kind in _kinds(table.select([name for name in table.column_names if name.strip()]), label):
        own = replace(kind, rows=[row for row in kind.rows if row not in taken])
        taken.update(own.rows)
        questions += [own.question] if own.rows else []
    if not taken:
        return sample
    kept = np.ones(table.num_rows, dtype=bool)
    kept[sorted(taken)] = False
    spelled = pc.fill_null(as_text(table.column(label).filter(pa.array(~kept))), "").to_pylist()
    return replace(
        sample,
        table=table.filter(pa.array(kept)),
        labels=sample.labels - Counter(spelled),
        questions=(*sample.questions, *questions),
    )


def _kinds(table: pa.Table, label: str) -> Iterator[_Kind]:
    labels = _texts(table.column(label))
    unlabelled = _is_one_of(
        labels, {text for text in pc.unique(labels).to_pylist() if not text or may_be_missing(text)}
    )
    yield _headers(table, labels, label)
    yield _descriptions(table, label)
    # A total's label is empty, or the number or share of those who left; texts of all other rows need not be read.
    rows = np.flatnonzero(unlabelled | _has_rare_number(labels))
    cells = {name: _texts(table.column(name).take(pa.array(rows))) for name in table.column_names if name != label}
    yield _with_word(cells, rows, _TOTAL, "is a total", "are totals")
    last = rows >= table.num_rows - _LAST
    ends = {name: texts.filter(pa.array(last)) for name, texts in cells.items()}
    yield _with_word(ends, rows[last], _MEAN, "is a mean or the like", "are means or the like")
    yield _notes(cells, rows, unlabelled, table.num_rows)
    if unlabelled[-1:].any() and _is_sum(table, label):
        yield _Kind([table.num_rows - 1], "at the end is the sum of the others", "")


def _descriptions(table: pa.Table, label: str) -> _Kind:
    """Rows directly below the header in which no column of numbers has one, and some have a word of their own."""
    below = table.slice(_DESCRIBING, _COMPARED)
    compared = {name: _texts(below.column(name)) for name in table.column_names if _is_text(table.column(name))}
    numbers = {name: set(cells.to_pylist()) for name, cells in compared.items() if _are_numbers(cells)}
    later_labels = set(_texts(below.column(label)).to_pylist())
    rows, examples = list[int](), list[str]()
    for row in range(min(_DESCRIBING, table.num_rows - 1)):
        cells = {name: _texts(table.column(name).slice(row, 1))[0].as_py() for name in table.column_names}
        has_number = [name for name in numbers if _is_number(cells[name])]
        own = [cells[n] for n, others in numbers.items() if cells[n] not in others and not may_be_missing(cells[n])]
        own = [text for text in own if text]
        is_labelled = cells[label] in later_labels and not may_be_missing(cells[label]) and cells[label] != ""
        is_line = all(not text.strip("-=_+*:| ") for text in cells.values())
        if has_number or not (is_line or len(own) > is_labelled):
            break
        rows.append(row)
        examples += own or [next(filter(None, cells.values()), "")]
    quoted = ", ".join(repr(example[:24]) for example in examples[:3])
    columns = f"the columns ({quoted})"
    return _Kind(rows, f"below the header describes {columns}", f"below the header describe {columns}")


def _headers(table: pa.Table, labels: pa.Array, label: str) -> _Kind:
    """Rows in which more than half of the filled cells are the names of their columns."""
    rows = np.flatnonzero(_is_one_of(labels, {label.strip()}))
    same, filled = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    for name in table.column_names:
        cells = _texts(table.column(name).take(pa.array(rows)))
        same += _is_one_of(cells, {name.strip()}) & (name.strip() != "")
        filled += ~_is_one_of(cells, {""})
    repeats = rows[2 * same > filled].tolist() if len(table.column_names) > 1 else []
    return _Kind(repeats, "repeats the header", "repeat the header")


def _with_word(cells: dict[str, pa.Array], rows: Index, pattern: str, singular: str, plural: str) -> _Kind:
    """Those of `rows` with such a word; `cells` are theirs."""
    named, examples = np.zeros(len(rows), dtype=bool), list[str]()
    for texts in cells.values():
        mask = to_numpy(pc.match_substring_regex(texts, pattern, ignore_case=True))
        named |= mask
        examples += texts.filter(pa.array(mask)).to_pylist()
    example = f" ('{examples[0]}')" if examples else ""
    return _Kind(rows[named].tolist(), singular + example, plural + example)


def _notes(cells: dict[str, pa.Array], rows: Index, unlabelled: Mask, total: int) -> _Kind:
    """Those of `rows` without a label in which one cell is filled, such as a number of the page; in the last rows, at
    most one in four. `cells` are theirs."""
    if len(cells) < 3:
        return _Kind([], "", "")
    filled = np.sum([~_is_one_of(texts, {""}) for texts in cells.values()], axis=0)
    most = np.where(rows >= total - _LAST, max(1, len(cells) // 4), 1)
    notes = np.flatnonzero(unlabelled[rows] & (filled <= most))
    texts = [text for name in cells for text in cells[name].take(pa.array(notes[:1])).to_pylist() if text]
    example = f" ('{texts[0][:40]}')" if texts else ""
    return _Kind(rows[notes].tolist(), "is a note" + example, "are notes" + example)


def _is_sum(table: pa.Table, label: str) -> bool:
    """Whether each number of the last row is the sum of those above."""
    sums = 0
    for name in table.column_names:
        cells = _texts(table.column(name)) if name != label else pa.array([""])
        if not _is_number(cells[-1].as_py()):
            continue
        try:
            filled = pc.replace_with_mask(cells, pc.equal(cells, ""), pa.scalar(None, pa.string()))
            numbers = to_numpy(pc.fill_null(filled.cast(pa.float64()), 0.0))
        except pa.ArrowInvalid:
            continue
        if abs(numbers[-1] - numbers[:-1].sum()) > _SAME_SUM * abs(numbers[-1]) or numbers[-1] == 0.0:
            return False
        sums += 1
    return sums > 0


def _has_rare_number(labels: pa.Array) -> Mask:
    """Rows whose label has a digit and is too rare to be a state of customers."""
    encoded = labels.dictionary_encode()
    times = np.bincount(to_numpy(encoded.indices), minlength=len(encoded.dictionary))
    rare = times <= max(1.0, _RARE * len(labels))
    return np.asarray((rare & to_numpy(pc.match_substring_regex(encoded.dictionary, r"\d")))[to_numpy(encoded.indices)])


def _texts(cells: pa.ChunkedArray) -> pa.Array:
    """Cells as texts without blanks around them, shape (rows,); a missing one is empty."""
    return pc.utf8_trim_whitespace(pc.fill_null(as_text(cells), ""))


def _is_text(cells: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type))


def _is_number(text: str) -> bool:
    return any(c.isdecimal() for c in text) and not any(c.isalpha() for c in text)


def _are_numbers(cells: pa.Array) -> bool:
    """Whether nearly every filled cell is a number, or a date of digits."""
    filled = cells.filter(pc.not_equal(cells, ""))
    numbers = pc.sum(pc.match_substring_regex(filled, _NUMBER)).as_py() or 0
    return len(filled) >= 5 and numbers >= _NUMBERS_SHARE * len(filled)


def _is_one_of(cells: pa.Array, values: set[str]) -> Mask:
    return to_numpy(pc.is_in(cells, value_set=pa.array(sorted(values), pa.string())))
