"""Every reason and figure that a draft gives is true of the table that it was made from."""

import datetime as dt
import re

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from churn_assets.contract.model import Role
from churn_assets.drafting.columns import means_nothing
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets.errors import DraftError

ROWS = 60
POOLS = (
    ("a", "b", "c"),
    ("a", "A ", "b", "n/a", ""),
    ("same",),
    ("same", ""),
    ("", "NA"),
    tuple(str(i) for i in range(200)),
    tuple(f"{i / 4:.2f}" for i in range(60)),
    ("1", "2", "3", "-999", ""),
    tuple(f"K{i:04d}" for i in range(500)),
    (*(str(dt.date(2024, 1, 1) + dt.timedelta(days=3 * i)) for i in range(90)), "9999-12-31", ""),
    ("yes", "no", "1", "0"),
)
NAMES = ("joined", "visits", "plan code", "ref", "note", "last_order", "Score", "spend")


@st.composite
def columns(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True))
    table = {}
    for name in names:
        pool = draw(st.sampled_from(POOLS))
        if len(pool) >= ROWS and draw(st.booleans()):
            table[name] = draw(st.permutations(pool))[:ROWS]
        else:
            table[name] = draw(st.lists(st.sampled_from(pool), min_size=ROWS, max_size=ROWS))
    if draw(st.booleans()):
        table[names[0] + "2"] = table[names[0]]
    return table


def facts(cells):
    full = [cell for cell in cells if cell.strip()]
    return full, [cell for cell in full if not means_nothing(cell)]


def is_true(reason, cells, table):
    """Whether a reason for leaving a column out holds; a KeyError for one that this test does not know."""
    full, real = facts(cells)
    texts = {
        r"it is empty in every row": lambda _: not real,
        r"it is '(.*)' in every row": lambda m: set(cells) == {m[1]},
        r"it is (\d{4}-\d\d-\d\d) in every row": lambda m: {cell.strip() for cell in cells} == {m[1]},
        r"it repeats '(.*)' in every row": lambda m: table[m[1]] == cells,
        r"every row has another (?:text|number).*": lambda _: len(set(cells)) == len(full) == ROWS,
        r"nearly every row has another (?:text|number).*": lambda _: len(set(real)) >= 0.999 * len(real),
        r"([\d,]+) different texts in 60 rows are too many.*": lambda m: int(m[1]) in (len(set(real)), len(set(full))),
        r"its name is that of a code or id, and (\d+) values are .*": lambda m: int(m[1]) <= len(set(real)) > 60,
    }
    return next(holds(match) for text, holds in texts.items() if (match := re.fullmatch(text, reason)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns())
def test_reasons_and_counts_are_those_of_the_table(tmp_path_factory, made):
    table = {name: list(cells) for name, cells in made.items()}
    path = tmp_path_factory.mktemp("claims") / "t.parquet"
    columns = {**table, "steady": [str(i % 7) for i in range(ROWS)], "left": [str(i % 2) for i in range(ROWS)]}
    pq.write_table(pa.table(columns), path)
    try:
        found = draft_contract(path, DraftOptions("left", "1"), today=dt.date(2026, 1, 1))
    except DraftError:
        return
    blocks = {}
    for block in re.split(r"\n\n", found.text.replace("\n#   ", " ")):
        match = re.search(r'^name = "(.*)"$', block, re.M)
        if match and "[[columns]]" in block:
            blocks[match[1]] = block
    for name, cells in table.items():
        role, block = found.contract.column(name).role, blocks[name]
        full, _ = facts(cells)
        if role is Role.IGNORE:
            assert is_true(re.search(r"^# (.*)$", block, re.M)[1], cells, table), block
        for text, rows in re.findall(r"'([^']*)' \(([\d,]+) rows?\) is read as missing", block):
            assert cells.count(text) == int(rows.replace(",", ""))
        missing = re.search(r"([\d,]+) of 60 rows missing", block)
        spelled = sum(cell in found.contract.column(name).missing for cell in full)
        if role not in (Role.IGNORE, Role.KEY):
            assert (int(missing[1]) if missing else 0) == ROWS - len(full) + spelled
        for odd, rows in re.findall(r"does (-?\d+) \((\d+) rows?\) mean missing", block):
            assert sum(cell == odd for cell in cells) == int(rows)
    assert f"{ROWS} rows, 30 churned and 30 kept" in found.text.replace("\n#  ", "")
