"""Texts in files that people open, CSV and workbooks: a spreadsheet must not take a cell for a formula.

A text that begins with = + - @, also full-width, tab, CR or LF gets an apostrophe in front; one that is a plain number
does not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# As Arrow's RE2 writes it, and as `re` does.
_FORMULA = r"^([=@\t\r\n\x{FF1D}\x{FF20}]|[+\-\x{FF0B}\x{FF0D}](?:$|[^0-9]|[0-9][0-9.,]*[^0-9.,]))"
_IN_PYTHON = re.compile(re.sub(r"\\x\{(\w+)\}", r"\\u\1", _FORMULA))
_NEUTRAL = r"'\1"


def neutral_text(cell: object) -> object:
    """A cell for a CSV file; only texts change."""
    return _IN_PYTHON.sub(_NEUTRAL, cell, count=1) if isinstance(cell, str) else cell


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
