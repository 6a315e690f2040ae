"""What the draft makes of dates, money and units of any spelling: the right kind, a question, or the column is left out
with the reason; and the draft reads its own table."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.model import Kind, Role
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets_tests.data import tables

ROWS = 60
DAYS = [dt.date(2021, 1, 3) + dt.timedelta(days=23 * i % 997) for i in range(ROWS)]
GERMAN = ("Jan", "Feb", "März", "Apr", "Mai", "Juni", "Juli", "Aug", "Sep", "Okt", "Nov", "Dez")
FRENCH = ("janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc.")
POLISH = "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia"
TURKISH = "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık"  # noqa: RUF001
CZECH = "ledna února března dubna května června července srpna září října listopadu prosince"
RUSSIAN = "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"


def seconds(day):
    return int(dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC).timestamp())


def draft(tmp_path, name, cells):
    """(the draft of a table with a column of these cells, what the validated table has in that column)."""
    table = {
        "customer_id": [f"K{i:03}" for i in range(ROWS)],
        name: list(cells),
        "visits": [i * 7 % 23 for i in range(ROWS)],
        "churn": ["Yes" if i * 13 % 29 < 10 else "No" for i in range(ROWS)],
    }
    path = tables.to_csv(tmp_path / "t.csv", table)
    found = draft_contract(path, DraftOptions("churn", "Yes"), today=dt.date(2026, 1, 1))
    repaired, _ = apply_repairs(read_table(path, found.contract), found.contract)
    customers = validate(found.contract, repaired).customers
    return found, customers[name].to_pylist() if name in customers.column_names else None


DATES = {
    "epoch seconds": ("joined", seconds, ("epoch_seconds",), "is read as"),
    "epoch milliseconds": ("joined_at", lambda day: seconds(day) * 1000, ("epoch_milliseconds",), "is read as"),
    "an Excel serial": ("signup_serial", lambda d: (d - dt.date(1899, 12, 30)).days, ("excel_serial",), "is read as"),
    "eight digits": ("joined", "{:%Y%m%d}".format, ("%Y%m%d",), "is read as"),
    "day, month, year of two digits": ("joined", "{:%d.%m.%y}".format, ("%d.%m.%y",), ""),
    "eight digits, the day first": ("joined", "{:%d%m%Y}".format, ("%d%m%Y",), "is read as"),
    "Korean with dots": ("joined", lambda d: f"{d.year}. {d.month}. {d.day}.", ("%Y. %m. %d.",), ""),
    "of mail": ("joined", "{:%a, %d %b %Y 09:30:00} GMT".format, ("%d %b %Y %H:%M:%S",), ""),
    "of mail with an offset": ("joined", "{:%a, %d %b %Y 09:30:00} +0200".format, ("%d %b %Y %H:%M:%S %z",), ""),
    "of C": ("joined", "{:%a %b %d 09:30:00 UTC %Y}".format, ("%b %d %H:%M:%S %Y",), ""),
    "Polish": ("joined", lambda d: f"{d.day} {POLISH.split()[d.month - 1]} {d.year} r.", None, ""),
    "Turkish": ("joined", lambda d: f"{d.day} {TURKISH.split()[d.month - 1]} {d.year}", None, ""),
    "Czech": ("joined", lambda d: f"{d.day}. {CZECH.split()[d.month - 1]} {d.year}", None, ""),
    "UTC behind": ("joined", "{:%Y-%m-%d} 00:00:00 UTC".format, (), ""),
    "Chinese": ("joined", lambda d: f"{d.year}年{d.month}月{d.day}日", ("%Y年%m月%d日",), ""),
    "a weekday before": ("joined", "{:%A, %B %d, %Y}".format, ("%B %d, %Y",), ""),
    "German": ("joined", lambda d: f"{d.day}. {GERMAN[d.month - 1]} {d.year}", None, ""),
    "French": ("joined", lambda d: f"{d.day} {FRENCH[d.month - 1]} {d.year}", None, ""),
    "Russian": ("joined", lambda d: f"{d.day} {RUSSIAN.split()[d.month - 1]} {d.year} г.", None, ""),  # noqa: RUF001
}


@pytest.mark.parametrize(("name", "write", "formats", "question"), DATES.values(), ids=DATES)
def test_days_of_every_spelling_are_days(tmp_path, name, write, formats, question):
    found, days = draft(tmp_path, name, map(write, DAYS))
    column = found.contract.column(name)
    assert column.kind is Kind.DATE
    assert formats is None or column.formats == formats
    assert days == DAYS
    assert found.contract.time.cohort == name
    assert question in found.text.replace("\n#  ", "")


UNREAD = ["令和{0.day}年{0.month}月{0.day}日", "/Date({0.day}{0.month}1608854400)/", "{0:%G-W%V}"]


@pytest.mark.parametrize("form", UNREAD)
def test_a_date_of_no_known_form_is_left_out_with_a_question(tmp_path, form):
    found, _ = draft(tmp_path, "joined", map(form.format, DAYS))
    text = found.text.replace("\n#  ", "")
    assert found.left_out == ("joined",)
    assert "its name is that of a date, and '" in text
    assert "'joined' may be the day on which a customer joined, but is not used" in text


MONTHS = ["{:%b %Y}", "{:%B %Y}", "{:%Y-%m}", "{:%b-%Y}", "{:%m/%Y}", "{:%b-%y}", "{:%Y%m}"]


@pytest.mark.parametrize("form", MONTHS)
def test_a_month_is_its_first_day(tmp_path, form):
    found, days = draft(tmp_path, "start_month", map(form.format, DAYS))
    assert days == [day.replace(day=1) for day in DAYS]
    assert ("read as" in found.text) == (form in ("{:%b-%y}", "{:%Y%m}"))


@pytest.mark.parametrize("write", ["Q{} {}", "{1}-Q{0}", "q{}/{}", "{1}Q{0}"])
def test_a_quarter_is_its_first_day(tmp_path, write):
    found, days = draft(tmp_path, "joined", (write.format((day.month + 2) // 3, day.year) for day in DAYS))
    assert found.contract.column("joined").formats == ("quarter",)
    assert days == [dt.date(day.year, (day.month + 2) // 3 * 3 - 2, 1) for day in DAYS]
    assert found.contract.time.cohort == "joined"


def test_small_numbers_are_no_seconds_since_1970(tmp_path):
    found, _ = draft(tmp_path, "last_order", [i / 4 for i in range(ROWS)])
    assert found.contract.column("last_order").kind is Kind.NUMBER


@pytest.mark.parametrize("name", ["visits_value", "order_count", "spend", "clicks"])
def test_a_number_that_could_be_a_day_stays_a_number_under_another_name(tmp_path, name):
    found, _ = draft(tmp_path, name, [40_000 + 17 * i for i in range(ROWS)])
    assert found.contract.column(name).kind is not Kind.DATE


def test_the_question_on_a_month_and_a_year_shows_a_cell_of_the_table(tmp_path):
    found, _ = draft(tmp_path, "start", [f"March {17 + i % 7}" for i in range(ROWS)])
    assert "a date such as 'March 17' is read as a month and a year; is that right?" in found.text


def test_day_and_month_in_both_orders_are_never_guessed(tmp_path):
    mixed = [f"{day:%d/%m/%Y}" if i % 2 else f"{day:%m/%d/%Y}" for i, day in enumerate(DAYS)]
    found, days = draft(tmp_path, "joined", mixed)
    assert (found.contract.column("joined").role, days) == (Role.IGNORE, None)
    text = " ".join(found.text.replace("\n#  ", "").split())
    assert "# day and month stand in both orders" in text
    assert "QUESTION: can that be repaired in the table?" in text
    assert "rows can be read in two ways; write all dates in one order, such as 2024-08-27" in text


NUMBERS = {
    "months": ([f"{i % 50} months" for i in range(ROWS)], [i % 50 for i in range(ROWS)], "months", "units"),
    "years and months": ([f"{i // 12}y {i % 12}m" for i in range(ROWS)], range(ROWS), "months", "units"),
    "months or a year": (["1 year" if i % 9 == 0 else f"{i} months" for i in range(ROWS)], None, "months", "units"),
    "gigabytes": ([f"{i / 4} GB" for i in range(ROWS)], [i / 4 for i in range(ROWS)], "GB", "units"),
    "a decimal comma": ([f"{i},5 GB" for i in range(ROWS)], [i + 0.5 for i in range(ROWS)], "GB", "units"),
    "a clock": (
        [f"{i // 60:02}:{i % 60:02}:30" for i in range(ROWS)],
        [i + 0.5 for i in range(ROWS)],
        "minutes",
        "units",
    ),
    "accounting": ([f"({i},200.50)" if i % 2 else f"{i + 1},200.50" for i in range(ROWS)], None, "", "number_marks"),
    "thousands": ([f"{i + 10.5}K" for i in range(ROWS)], [1000 * (i + 10.5) for i in range(ROWS)], "", "number_marks"),
    "rupees": ([f"INR {7 * i}" for i in range(ROWS)], range(0, 7 * ROWS, 7), "", "number_marks"),
    "euros": ([f"{i}.234,50 €" for i in range(1, ROWS + 1)], None, "", "decimal_comma"),
    "per cent": ([f"{i % 40}%" for i in range(ROWS)], [i % 40 for i in range(ROWS)], "", "number_marks"),
}


@pytest.mark.parametrize(("cells", "numbers", "unit", "repair"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_every_spelling_are_numbers(tmp_path, cells, numbers, unit, repair):
    found, values = draft(tmp_path, "amount", cells)
    column = found.contract.column("amount")
    assert column.kind in (Kind.NUMBER, Kind.INTEGER)
    assert (column.convert_to, column.nullable, column.missing) == (unit, False, ())
    assert repair in found.contract.source.repairs
    assert values is not None
    assert None not in values
    if numbers is not None:
        assert values == pytest.approx(list(numbers))
    assert found.report.rows_rejected == 0


def test_a_number_that_fits_both_styles_is_a_question_and_follows_the_other_columns(tmp_path):
    cells = [f"{i % 30 + 1},200" for i in range(ROWS)]
    found, values = draft(tmp_path, "amount", cells)
    assert values == [1000 * (i % 30 + 1) + 200 for i in range(ROWS)]
    text = " ".join(found.text.replace("\n#  ", "").split())
    assert "'1,200' is read as 1200; if it is 1.2, write 'decimal_comma' in [source] repairs." in text


REFUSED = {
    "months and gigabytes": ([f"{i} months" if i % 2 else f"{i} GB" for i in range(ROWS)], "cannot be converted into"),
    "two currencies": (
        [f"${i}" if i % 2 else f"€{i}" for i in range(ROWS)],
        "in several currencies: € (30 rows), $ (30",
    ),
    "per cent and shares": ([f"{i}%" if i % 2 else f"0.{i}1" for i in range(ROWS)], "have a percent sign"),
}


@pytest.mark.parametrize(("cells", "why"), REFUSED.values(), ids=REFUSED)
def test_numbers_that_are_not_one_quantity_are_left_out_with_a_question(tmp_path, cells, why):
    found, values = draft(tmp_path, "amount", cells)
    assert (found.contract.column("amount").role, values) == (Role.IGNORE, None)
    lines = " ".join(found.text.replace("\n#  ", "").split())
    assert why in lines
    assert "QUESTION: can that be repaired in the table? Until then the column is not used." in lines


def test_units_in_another_style_of_numbers_than_the_table_are_left_out(tmp_path):
    table: tables.Columns = {
        "customer_id": [f"K{i:03}" for i in range(ROWS)],
        "price": [f"1.{i:03},50" for i in range(ROWS)],
        "usage": [f"{i / 4:.2f} GB" for i in range(ROWS)],
        "length": [f"{i} months" for i in range(ROWS)],
        "churn": ["Yes" if i % 3 == 0 else "No" for i in range(ROWS)],
    }
    path = tables.to_csv(tmp_path / "t.csv", table, delimiter=";")
    found = draft_contract(path, DraftOptions("churn", "Yes"), today=dt.date(2026, 1, 1))
    assert (found.left_out, found.report.rows_rejected) == (("usage",), 0)
    assert "its numbers are written in another style than those of other columns" in found.text


def test_numbers_in_a_category_of_parquet_are_read_as_those_of_a_text(tmp_path):
    cells = [f"$1,{i:03}.50" for i in range(ROWS)]
    table = pa.table(
        {
            "customer_id": [f"K{i:03}" for i in range(ROWS)],
            "spend": pa.array(cells).dictionary_encode(),
            "churn": ["Yes" if i % 3 == 0 else "No" for i in range(ROWS)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = draft_contract(tmp_path / "t.parquet", DraftOptions("churn", "Yes"), today=dt.date(2026, 1, 1))
    assert (found.contract.column("spend").kind, found.report.rows_rejected) == (Kind.NUMBER, 0)


def test_a_row_of_totals_is_asked_about_once_and_sets_no_range(tmp_path):
    table: tables.Columns = {
        "customer_id": [*(f"K{i:03}" for i in range(ROWS)), "Total"],
        "visits": [*(i * 7 % 23 for i in range(ROWS)), "1,104"],
        "spend": [*(f"$1,{i:03}.50" for i in range(ROWS)), "$61,800.00"],
        "churn": [*("Yes" if i % 3 == 0 else "No" for i in range(ROWS)), ""],
    }
    path = tables.to_csv(tmp_path / "t.csv", table)
    found = draft_contract(path, DraftOptions("churn", "Yes"), today=dt.date(2026, 1, 1))
    assert "1 row is a total ('Total'), so it is rejected and sets no range." in found.text.replace("\n#  ", "")
    assert "have no " not in found.text
    assert (found.contract.column("visits").high, found.report.rows_rejected) == (50, 1)


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i % 4}A" for i in range(ROWS)],
        [f"{i % 5}0s" for i in range(ROWS)],
        [f"{i % 3}0-{i % 3}9 years" for i in range(ROWS)],
        [("1st", "2nd", "3rd")[i % 3] for i in range(ROWS)],
        [("Month-to-month", "One year", "Two year")[i % 3] for i in range(ROWS)],
    ],
)
def test_choices_that_begin_with_a_number_stay_choices(tmp_path, cells):
    found, values = draft(tmp_path, "group", cells)
    assert found.contract.column("group").kind is Kind.CATEGORY
    assert values == cells


def test_codes_are_the_same_choices_from_csv_and_parquet(tmp_path):
    found, values = draft(tmp_path, "region_code", [f"{i % 4}.0" for i in range(ROWS)])
    assert found.contract.column("region_code").choices == ("0", "1", "2", "3")
    assert values == [str(i % 4) for i in range(ROWS)]


@pytest.mark.parametrize(
    "words", [("k.A.", "keine Angabe"), ("нет данных", "н/д"), ("なし", "無"), ("ask Bob", "later")]
)
def test_a_few_words_among_many_numbers_or_dates_mean_missing(tmp_path, words):
    rows = range(400)
    texts = {
        "spend": [words[i // 4 % 2] if i % 4 == 0 else f"{i * 7 % 389}.25" for i in rows],
        "joined": [words[i // 4 % 2] if i % 4 == 0 else str(DAYS[0] + dt.timedelta(days=i)) for i in rows],
        "plan": [words[i // 4 % 2] if i % 4 == 0 else "ABC"[i % 3] for i in rows],
        "churn": ["Yes" if i * 13 % 29 < 10 else "No" for i in rows],
    }
    found = draft_contract(tables.to_csv(tmp_path / "t.csv", texts), DraftOptions("churn", "Yes"))
    kinds = {name: (found.contract.column(name).kind, set(found.contract.column(name).missing)) for name in texts}
    assert kinds["spend"] == (Kind.NUMBER, set(words))
    assert kinds["joined"] == (Kind.DATE, set(words))
    assert kinds["plan"][0] is Kind.CATEGORY
    assert found.report.rows_rejected == 0
