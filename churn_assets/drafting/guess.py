"""A guess at one column of an unknown table, and the words by which names give columns away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from churn_assets.contract.model import Column, Role

MAX_CHOICES = 60
READABLE_SHARE = 0.9  # a column is a number or a date if this share of its cells reads so

# Spellings of nothing. In a category some of them may be a choice of their own, the first ones never are.
NOTHING = ("NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan", "?")
NO_NUMBER = (*NOTHING, "None", "none", "-", "--", ".", "missing", "Missing", "unknown", "Unknown", "nil", "(null)")

ID_NAME = re.compile(
    r"(^|[_\W])(id|ids|uuid|guid|key|msisdn|phone|telephone|iban|e-?mail)($|[_\W])|customer_?id|cust_?id|client_?num"
    r"|(customer|client|account|user|subscriber|member)[_\W]?(no|nr|num|number)\b|kunden(nr|nummer)|rownumber|row_?num",
    re.I,
)
CODE_NAME = re.compile(
    r"zip|postal|post_?code|plz|(^|[_\W])(code|branch|region|area|type|class|segment)($|[_\W])", re.I
)
DATE_NAME = re.compile(r"date|day|datum|fecha|(^|_)(dt|at|on)$|since|tag($|_)", re.I)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class Guess:
    """A column as the draft will write it, with what was `seen`, `why` it is left out, and `questions`.

    `distinct` counts different values, `rows` and `missing_rows` rows of the sample; `repair` names the
    repair its cells need.
    """

    column: Column
    seen: str
    distinct: int
    rows: int
    missing_rows: int = 0
    why: str = ""
    questions: tuple[str, ...] = ()
    repair: str = ""
    is_unique: bool = False

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    def left_out(self, why: str) -> Guess:
        """The same column, read past, for this reason."""
        plain = Column(self.name, self.column.kind, Role.IGNORE)
        return replace(self, column=plain, why=why, questions=(), repair="")


def words_of(name: str) -> str:
    """A column's name with its parts apart: `CustomerID` reads `Customer_ID` to the patterns here."""
    return _CAMEL.sub("_", name)


def with_missing(found: Guess, counts: Mapping[str, int], readable: Mapping[str, int]) -> Guess:
    """`found`, told which spellings besides the empty cell mean nothing."""
    odd = {text: n for text, n in counts.items() if text not in readable}
    known = tuple(sorted(t for t in odd if t.strip() in NO_NUMBER))
    strange = sorted((t for t in odd if t.strip() not in NO_NUMBER), key=lambda t: -odd[t])
    asked = found.questions
    if 0 < len(strange) <= 10:
        known += tuple(strange)
        told = ", ".join(repr(t) for t in strange[:5])
        asked += (f"{told} ({sum(odd[t] for t in strange):,} rows) reads as nothing here; is that what it means?",)
    gone = found.missing_rows + sum(odd.values())
    column = replace(found.column, missing=known, nullable=gone > 0)
    return replace(found, column=column, missing_rows=gone, questions=asked)


def seen_choices(counts: Mapping[str, int]) -> str:
    """The most frequent values with their shares, for a comment."""
    total = sum(counts.values())
    top = sorted(counts.items(), key=lambda item: -item[1])[:4]
    told = ", ".join(f"{value.strip()[:24]} {n / total:.1%}" for value, n in top)
    return told + (f", and {len(counts) - 4} more" if len(counts) > 4 else "")
