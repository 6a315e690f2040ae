"""Texts in CSV files that people open: a spreadsheet must not take a cell for a formula.

A text that begins with = + - @, tab or CR gets an apostrophe in front; one that is a plain number does not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# For `re` and Arrow's RE2 alike.
_FORMULA = r"^([=@\t\r]|[+-](?:$|[^0-9]|[0-9][0-9.,]*[^0-9.,]))"
_NEUTRAL = r"'\1"


def neutral_text(cell: object) -> object:
    """A cell for a CSV file; only texts change."""
    return re.sub(_FORMULA, _NEUTRAL, cell, count=1) if isinstance(cell, str) else cell


def neutral_table(table: pa.Table) -> pa.Table:
    """A table for a CSV file; only columns of texts change."""
    import pyarrow as pa
    from pyarrow import compute as pc

    for index, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            cells = pc.replace_substring_regex(table[index].cast(kind), pattern=_FORMULA, replacement=_NEUTRAL)
            table = table.set_column(index, field.with_type(kind), cells)
    return table
