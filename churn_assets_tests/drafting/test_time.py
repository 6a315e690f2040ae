"""The cohort of an unknown table: a day of joining before a tenure, a tenure before an age; the rest is asked."""

import datetime as dt

import pytest

from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets_tests.data import tables

TODAY = dt.date(2026, 1, 1)
ROWS = 400
NUMBERS = [i % 60 for i in range(ROWS)]
DAYS = [str(dt.date(2023, 1, 1) + dt.timedelta(days=i)) for i in range(ROWS)]


def draft(tmp_path, columns):
    path = tables.to_csv(tmp_path / "t.csv", {**columns, **tables.only_numbers(ROWS)})
    found = draft_contract(path, DraftOptions("lost", "1"), today=TODAY)
    return found, " ".join(found.text.replace("\n#  ", "").split())


@pytest.mark.parametrize(
    ("columns", "cohort"),
    [
        ({"Customer_Age": NUMBERS, "Months_on_book": NUMBERS[::-1]}, "Months_on_book"),
        ({"YearsSinceLastPromotion": NUMBERS, "YearsAtCompany": NUMBERS[::-1]}, "YearsAtCompany"),
        ({"Account length": NUMBERS}, "Account length"),
        ({" TENURE (months) ": NUMBERS}, " TENURE (months) "),
        ({"Subscription_Length_Months": NUMBERS}, "Subscription_Length_Months"),
        ({"years_with_manager": NUMBERS, "antigüedad": NUMBERS[::-1]}, "antigüedad"),
        ({"在网月数": NUMBERS}, "在网月数"),
        ({"入网日期": DAYS, "tenure": NUMBERS}, "入网日期"),
        ({"data_adesao": DAYS}, "data_adesao"),
        ({"join_month": [day[:7] for day in DAYS], "joined": DAYS}, "joined"),
        ({"join_month": [day[:7] for day in DAYS], "last_visit": DAYS}, "join_month"),
        ({"дата_подключения": DAYS}, "дата_подключения"),
        ({"Age": NUMBERS, "YearsSinceLastPromotion": NUMBERS[::-1]}, None),
        ({"contract_months": NUMBERS}, None),
    ],
)
def test_the_cohort_is_the_day_of_joining_or_the_tenure(columns, cohort, tmp_path):
    assert draft(tmp_path, columns)[0].contract.time.cohort == cohort


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"last_order": DAYS}, "'last_order'"),
        ({"months": NUMBERS}, "'months'"),
        ({"Customer_Age": NUMBERS}, "'Customer_Age'"),
        ({"ordered": DAYS, "months": NUMBERS}, "'ordered' or 'months'"),
    ],
)
def test_a_sole_date_or_a_number_that_may_be_a_tenure_is_asked_about(columns, names, tmp_path):
    found, text = draft(tmp_path, columns)
    assert found.contract.time.cohort is None
    assert f"is {names} the day on which a customer joined, or the time since then?" in text


def test_a_birthday_is_no_day_of_joining(tmp_path):
    assert "no column has the day on which a customer joined" in draft(tmp_path, {"date_of_birth": DAYS})[1]
