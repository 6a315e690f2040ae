"""The contract's words for a value, and what may stand in them."""

import math

import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.contract.wording import Typical, Wording, format_number, topics
from churn_assets.errors import ContractError
from churn_assets_tests.scoring.tiny import CONTRACT, TEXT

RECENCY = 'recency_days = { expression = "days(as_of - lastorder)", doc = "days since the last order" }'
NONE = math.nan


def with_recency(extra):
    assert RECENCY in TEXT
    return parse_contract(TEXT.replace(RECENCY, RECENCY.replace(" }", f", {extra} }}")), "tiny.toml")


@pytest.mark.parametrize(
    ("name", "value", "typical", "words"),
    [
        ("recency_days", 212.0, Typical(46.0, 60.0), "days since the last order: 212; typical 46"),
        ("recency_days", 46.0, Typical(46.0, 60.0), "days since the last order: 46"),
        ("recency_days", 46.2, Typical(46.0, 60.0), "days since the last order: 46"),
        ("recency_days", NONE, Typical(46.0, 60.0), "days since the last order: not known"),
        ("recency_days", 212.0, None, "days since the last order: 212"),
        ("sent", 3.0, Typical(5.0, 6.0), "e-mails sent: 3; typical 5"),
        ("paperless", 1.0, Typical(0.0, 0.4), "no paper: yes; typical no"),
        ("paperless", 0.0, Typical(0.0, 0.4), "no paper: no"),
        ("city", 2.0, Typical(1.0, 1.2), "city: DEL; most often BOM"),
        ("city", 1.0, Typical(1.0, 1.2), "city: BOM"),
    ],
)
def test_without_a_template_a_reason_is_doc_value_and_typical_value(name, value, typical, words):
    assert Wording(CONTRACT).describe(name, value, typical) == words


def test_the_contracts_own_words_win():
    contract = with_recency(
        'reason_high = "no order for {value} days; average {average}", reason_low = "ordered {value} days ago", '
        'reason_missing = "no order yet"'
    )
    say = Wording(contract).describe
    assert say("recency_days", 212.0, Typical(30.0, 46.2)) == "no order for 212 days; average 46"
    assert say("recency_days", 7.0, Typical(30.0, 46.2)) == "ordered 7 days ago"
    assert say("recency_days", NONE, Typical(30.0, 46.2)) == "no order yet"
    assert say("recency_days", 30.0, Typical(30.0, 46.2)) == "days since the last order: 30"
    # over the median, and under the average that the text would compare it with
    assert say("recency_days", 40.0, Typical(30.0, 46.2)) == "days since the last order: 40; typical 30"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ('unit = "e-mails"', "e-mails sent: 3; typical 5"),  # the doc has it
        ('unit = "per year"', "e-mails sent: 3 per year; typical 5"),
        ('unit = "percent"', "e-mails sent: 3 %; typical 5 %"),
        ('reason_low = "sent {value}, typical {typical}"', "sent 3, typical 5"),
    ],
)
def test_a_unit_is_shown_once(column, text):
    contract = parse_contract(TEXT.replace('doc = "E-mails sent."', f'doc = "E-mails sent."\n{column}'), "tiny.toml")
    assert Wording(contract).describe("sent", 3.0, Typical(5.0, 6.0)) == text


@pytest.mark.parametrize(("doc", "label"), [("", "MonthlySpend"), ("MonthlySpend in euros.", "MonthlySpend in euros")])
def test_a_column_is_named_as_the_table_spells_it(doc, label):
    for name in ("MonthlySpend", "MonthlySpend "):  # a blank in the header
        text = TEXT.replace('name = "spent"', f'name = "{name}"').replace('doc = "Money spent."', f'doc = "{doc}"')
        assert Wording(parse_contract(text)).describe(name, 7.0, Typical(9.5, 9.0)) == f"{label}: 7; typical 9.5"


def test_a_name_of_several_lines_is_one_in_a_reason():
    contract = parse_contract(
        TEXT.replace('name = "spent"', 'name = "spent\\nin euros"').replace('"Money spent."', '""')
    )
    assert Wording(contract).describe("spent\nin euros", 7.0, None) == "spent in euros: 7"


def test_words_are_prose_and_change_no_fingerprint():
    other = with_recency('reason_high = "no order for {value} days", topic = "created"')
    assert other.fingerprint == CONTRACT.fingerprint
    assert topics(other)["recency_days"] == "created"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (
            'reason_high = "no order for {days}"',
            r"key 'reason_high' has '\{days\}'.* expected in braces, without a format: \{value\}",
        ),
        ('reason_low = "no order for {value"', r"key 'reason_low' does not parse"),
        ('reason_low = "{value:.1f}"', r"or a format; expected in braces, without a format"),
        ('reason_low = "{value.__class__}"', r"expected in braces"),
        ('topic = "lastordr"', r"key 'topic' is 'lastordr'; expected a column of role feature or input"),
        ('topic = "kept"', r"key 'topic' is 'kept'"),
    ],
)
def test_the_error_for_a_template_that_cannot_be_filled_has_its_place(extra, words):
    with pytest.raises(ContractError, match=rf"tiny\.toml, \[features\] 'recency_days': .*{words}"):
        with_recency(extra)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (212.0, "212"),
        (-0.2, "-0.2"),
        (1340.6, "1,341"),
        (0.17321, "0.17"),
        (19.96, "20"),
        (-0.0, "0"),
        (12.34, "12.3"),
        (1.5e-7, "0.00000015"),
        (1e-15, "0"),
    ],
)
def test_numbers_read_as_people_say_them(number, words):
    assert format_number(number) == words


def test_a_condition_is_described_as_yes_or_no():
    from churn_assets_tests.strategies import TELECOM

    assert Wording(TELECOM).describe("never_billed", 1.0, Typical(0.0, 0.01)) == "no bill yet: yes; typical no"
