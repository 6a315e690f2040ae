"""What a contract may not say, and what its author is told."""

import ast
import contextlib
import inspect
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract import check, expressions, load
from churn_assets.contract.load import load_contract, parse_contract
from churn_assets.contract.values import canonical_text
from churn_assets.errors import ContractError, ExpressionError
from churn_assets_tests.contract.small import SMALL, small
from churn_assets_tests.strategies import CONTRACTS, ROOT

# what is broken: (text of the good contract, what stands there instead), where, found, allowed or advice
BROKEN = {
    "an unknown table": (("[value]", "[valu]"), "the top level", "unknown key 'valu'", "did you mean 'value'?"),
    "no name": (('name = "small"\n', ""), "the top level", "key 'name' is missing", "required: name, label"),
    "a name that is a number": (('name = "small"', "name = 5"), "the top level", "key 'name' is 5", "expected text"),
    "a table that is a text": (
        ('[source]\nformat = "csv"\nrepairs = ["ids_as_text"]', 'source = "csv"'),
        "[source]",
        "found 'csv'",
        "expected a table",
    ),
    "an unknown key": (("horizon_days", "horizon_day"), "[label]", "unknown key 'horizon_day'", "'horizon_days'?"),
    "a key missing": (('churned_when = "yes"\n', ""), "[label]", "key 'churned_when' is missing", "required: column"),
    "a label value that is a list": (('"yes"', '["yes"]'), "[label]", "key 'churned_when' is a list", "one text"),
    "a whole number that is not": (("= 30", "= 30.5"), "[label]", "key 'horizon_days' is 30.5", "a whole number"),
    "a whole number that is a truth": (("= 30", "= true"), "[label]", "key 'horizon_days' is true", "a whole number"),
    "a number that is text": (
        ("monthly_value = 10", 'monthly_value = "10"'),
        "[value]",
        "key 'monthly_value' is '10'",
        "a finite number",
    ),
    "a number that is not finite": (
        ("monthly_value = 10", "monthly_value = inf"),
        "[value]",
        "key 'monthly_value' is inf",
        "a finite number",
    ),
    "a list that is a text": (
        ('repairs = ["ids_as_text"]', 'repairs = "ids_as_text"'),
        "[source]",
        "key 'repairs' is 'ids_as_text'",
        "expected a list of texts",
    ),
    "a list of lists": (
        ('["a", "b", "c"]', '[["a"]]'),
        "[[columns]] #8 'plan'",
        "'choices' is a list",
        "list of texts",
    ),
    "a truth that is a number": (
        ('nullable = true\n\n[[columns]]\nname = "spend"', 'nullable = 1\n\n[[columns]]\nname = "spend"'),
        "[[columns]] #4 'seen'",
        "key 'nullable' is 1",
        "expected true or false",
    ),
    "an unknown kind": (
        ('kind = "boolean"', 'kind = "bool"'),
        "[[columns]] #7 'member'",
        "key 'kind' is 'bool'",
        "expected one of: id, text, number",
    ),
    "an unknown role": (
        ('role = "ignore"', 'role = "skip"'),
        "[[columns]] #9 'note'",
        "key 'role' is 'skip'",
        "expected one of: key, label, feature, input, ignore",
    ),
    "an unknown severity": (
        ('expression = "joined <= seen"', 'expression = "joined <= seen"\nseverity = "stop"'),
        "[[rules]] #1",
        "key 'severity' is 'stop'",
        "expected one of: reject, warn",
    ),
    "a column without a kind": (('kind = "boolean"\n', ""), "[[columns]] #7 'member'", "key 'kind' is missing", ""),
    "a feature that is a number": (('"days(as_of - joined)"', "5"), "[features] 'age_days'", "found 5", "in quotes"),
    "a feature with an unknown key": (
        ('doc = "money a visit"', 'docs = "money a visit"'),
        "[features] 'spend_per_visit'",
        "unknown key 'docs'",
        "did you mean 'doc'?",
    ),
    "a feature that renames itself": (
        ('doc = "money a visit"', 'name = "other"'),
        "[features] 'spend_per_visit'",
        "unknown key 'name'",
        "allowed: expression, model, monotone, doc",
    ),
    "features as a list": (
        ('[features]\nage_days = "days(as_of - joined)"', '[[features]]\nage_days = "days(as_of - joined)"'),
        "[features]",
        "found a list",
        'name = "expression" lines',
    ),
    "rules as a table": (("[[rules]]", "[rules]"), "[[rules]]", "found a table", "expected [[rules]] tables"),
    "a column twice": (('name = "note"', 'name = "plan"'), "[[columns]]", "column 'plan' occurs 2 times", "once"),
    "columns that differ only by case": (
        ('name = "visits"', 'name = "Spend"'),
        "[[columns]]",
        "the names 'spend' and 'Spend' differ only by case",
        "rename one of them in the table, or give it role 'ignore'",
    ),
    "a column without a name": (('name = "note"', 'name = " "'), "[[columns]]", "a column has an empty name", ""),
    "a rule twice": (
        ("[value]", '[[rules]]\nname = "joined_first"\nexpression = "visits > 0"\n\n[value]'),
        "[[rules]]",
        "rule 'joined_first' occurs 2 times",
        "rename or remove one",
    ),
    "a feature with a column's name": (
        ("age_days =", "visits ="),
        "[features] 'visits'",
        "a column already has this name",
        "choose another",
    ),
    "a feature with a space": (("age_days =", '"age days" ='), "[features] 'age days'", "expected a name of", "digits"),
    "a feature named as a word": (
        ("age_days =", "not ="),
        "[features] 'not'",
        "expected a name of",
        "not a keyword of",
    ),
    "a feature named as_of": (("age_days =", "as_of ="), "[features] 'as_of'", "the instant of scoring", "another"),
    "a column named customer_id that is no key": (
        ('name = "visits"', 'name = "customer_id"'),
        "[[columns]] 'customer_id'",
        "is reserved for",
        "rename it",
    ),
    "a column named as_of": (
        ('name = "visits"', 'name = "as_of"'),
        "[[columns]] 'as_of'",
        "is reserved for",
        "rename it",
    ),
    "a column named churned": (
        ('name = "visits"', 'name = "churned"'),
        "[[columns]] 'churned'",
        "the label of the validated table",
        "rename it",
    ),
    "a column named as a mark": (
        ('name = "visits"', 'name = "row_source"'),
        "[[columns]] 'row_source'",
        "a column of the validated table",
        "rename it",
    ),
    "an unknown format": (
        ('format = "csv"', 'format = "xlsx"'),
        "[source]",
        "key 'format' is 'xlsx'",
        "expected one of: auto, excel, csv, json, parquet, duckdb",
    ),
    "an unknown repair": (("ids_as_text", "id_as_text"), "[source]", "'id_as_text'", "did you mean 'ids_as_text'?"),
    "a category without choices": (
        ('choices = ["a", "b", "c"]', ""),
        "[[columns]] 'plan'",
        "'choices' and kind 'category' belong together",
        "with at least 1 choice",
    ),
    "choices on a number": (
        ('kind = "integer"', 'kind = "integer"\nchoices = ["1"]'),
        "[[columns]] 'visits'",
        "'choices' and kind 'category' belong together",
        "",
    ),
    "an unknown direction": (
        ('kind = "boolean"', 'kind = "boolean"\nmonotone = "up"'),
        "[[columns]] #7 'member'",
        "key 'monotone' is 'up'",
        "expected one of: rising, falling",
    ),
    "an unknown direction of a feature": (
        ('doc = "money a visit"', 'monotone = "fall"'),
        "[features] 'spend_per_visit'",
        "key 'monotone' is 'fall'; did you mean 'falling'?",
        "expected one of: rising, falling",
    ),
    "a format that is none": (
        ("low = 2000-01-01", 'low = 2000-01-01\nformats = ["epoch"]'),
        "[[columns]] 'joined'",
        "key 'formats' has 'epoch'",
        "or one of: excel_serial, epoch_seconds",
    ),
    "a unit without its repair": (
        ('kind = "integer"', 'kind = "integer"\nconvert_to = "months"'),
        "[[columns]] 'visits'",
        "key 'convert_to' needs the repair 'units'",
        "add it to [source] repairs",
    ),
    "a unit of a boolean": (
        ('kind = "boolean"', 'kind = "boolean"\nconvert_to = "months"'),
        "[[columns]] 'member'",
        "key 'convert_to' is set on a boolean; expected a number or an integer",
        "remove it",
    ),
    "a unit that is none": (
        ('kind = "integer"', 'kind = "integer"\nconvert_to = "5"'),
        "[[columns]] 'visits'",
        "key 'convert_to' is '5'",
        "expected a unit such as months",
    ),
    "a changeable label": (
        ('role = "label"', 'role = "label"\nchangeable = "any"'),
        "[[columns]] 'lost'",
        "key 'changeable' is set on a column of role 'label' and kind 'text'; expected role 'feature' or 'input'",
        "remove it",
    ),
    "a category that changes upwards": (
        ('choices = ["a", "b", "c"]', 'choices = ["a", "b", "c"]\nchangeable = "up"'),
        "[[columns]] 'plan'",
        "key 'changeable' is 'up' on a category; expected any",
        "choices have no order",
    ),
    "a direction of a category": (
        ('choices = ["a", "b", "c"]', 'choices = ["a", "b", "c"]\nmonotone = "rising"'),
        "[[columns]] 'plan'",
        "key 'monotone' is set on a category; expected number",
        "remove it",
    ),
    "words with a hole nobody fills": (
        ('doc = "money a visit"', 'reason_high = "spends {amount}"'),
        "[features] 'spend_per_visit'",
        "key 'reason_high' has '{amount}'",
        "expected in braces, without a format: {value}, {typical}, {average}",
    ),
    "a choice twice": (('["a", "b", "c"]', '["a", "a"]'), "[[columns]] 'plan'", "'choices' has a value twice", ""),
    "an empty choice": (('["a", "b", "c"]', '["a", ""]'), "[[columns]] 'plan'", "'choices' has an empty text", ""),
    "a choice that is missing": (
        ('["a", "b", "c"]', '["a", "b"]\nmissing = ["a"]'),
        "[[columns]] 'plan'",
        "'a' is in 'choices' and in 'missing'",
        "expected in one of them",
    ),
    "true that is false": (
        ('kind = "boolean"', 'kind = "boolean"\ntrue = ["1"]\nfalse = ["0", "1"]'),
        "[[columns]] 'member'",
        "'1' is in 'true' and in 'false'",
        "",
    ),
    "a text for the model": (
        ('kind = "boolean"', 'kind = "text"'),
        "[[columns]] 'member'",
        "kind 'text' cannot be a model input",
        "role 'input'",
    ),
    "a date for the model": (
        ('kind = "date"\nrole = "input"\nlow', 'kind = "date"\nlow'),
        "[[columns]] 'joined'",
        "kind 'date' cannot be a model input",
        "and a feature",
    ),
    "a number as a date's bound": (
        ("low = 2000-01-01", "low = 5"),
        "[[columns]] 'joined'",
        "key 'low' is 5",
        "a date such as 2014-01-20",
    ),
    "a date's bound in short": (("low = 2000-01-01", 'low = "20000101"'), "[[columns]] 'joined'", "20000101", "a date"),
    "a text as a number's bound": (
        ("high = 100", 'high = "100"'),
        "[[columns]] 'spend'",
        "key 'high' is 100",
        "bounds on numbers and dates only",
    ),
    "bounds on a boolean": (
        ('kind = "boolean"', 'kind = "boolean"\nlow = 0'),
        "[[columns]] 'member'",
        "key 'low' is 0",
        "bounds on numbers and dates only",
    ),
    "bounds crossed": (("low = 0\nhigh = 100", "low = 7\nhigh = 5"), "[[columns]] 'spend'", "low 7", "above high 5"),
    "two keys": (
        ('kind = "text"\nrole = "ignore"', 'kind = "id"\nrole = "key"'),
        "[[columns]]",
        "role 'key' is on id, note",
        "exactly 1 column",
    ),
    "no key": (
        ('kind = "id"\nrole = "key"', 'kind = "id"\nrole = "input"'),
        "[[columns]]",
        "role 'key' is on no column",
        "exactly 1 column",
    ),
    "a key that is a text": (
        ('kind = "id"\nrole = "key"', 'kind = "text"\nrole = "key"'),
        "[[columns]] 'id'",
        "kind is 'text'; expected 'id' for the key column",
        "",
    ),
    "no label": (
        ('kind = "text"\nrole = "label"', 'kind = "text"\nrole = "ignore"'),
        "[[columns]]",
        "role 'label' is on no column",
        "exactly 1 column",
    ),
    "a label that is no column": (
        ('column = "lost"', 'column = "gone"'),
        "[label]",
        "column is 'gone', which is not in [[columns]]",
        "",
    ),
    "a label of another role": (
        ('column = "lost"', 'column = "visits"'),
        "[label]",
        "column 'visits' has role 'feature'",
        "expected role 'label'",
    ),
    "a label with one value": (
        ('kept_when = "no"', 'kept_when = "yes"'),
        "[label]",
        "churned_when and kept_when are both 'yes'",
        "",
    ),
    "a label that is churned and kept": (
        ('kept_when = "no"', 'kept_when = ["no", "yes "]'),
        "[label]",
        "churned_when and kept_when are both 'yes'",
        "expected different values",
    ),
    "a kept value twice": (
        ('kept_when = "no"', 'kept_when = ["no", "no"]'),
        "[label]",
        "'kept_when' has a value twice",
        "remove one",
    ),
    "no kept value": (('kept_when = "no"', "kept_when = []"), "[label]", "'kept_when' is a list", "or a list of them"),
    "no horizon": (("= 30", "= 0"), "[label]", "key 'horizon_days' is 0", "at least 1"),
    "an as_of that is nothing": (
        ('as_of = "latest"', 'as_of = "today"'),
        "[time]",
        "as_of is 'today'",
        "'latest', a date, or one of: joined, seen",
    ),
    "a cohort that cannot be ordered": (
        ('cohort = "joined"', 'cohort = "plan"'),
        "[time]",
        "key 'cohort' is 'plan'",
        "expected one of: joined, seen, spend, visits",
    ),
    "a share over one": (("save_rate = 0.1", "save_rate = 1.5"), "[value]", "key 'save_rate' is 1.5", "0.0 to 1.0"),
    "a negative cost": (("offer_cost = 1", "offer_cost = -1"), "[value]", "key 'offer_cost' is -1", "at least 0.0"),
    "no months": (("months = 12", "months = 0"), "[value]", "key 'months' is 0", "at least 1"),
    "no capacity": (("months = 12", "months = 12\ncapacity = 0"), "[value]", "key 'capacity' is 0", "at least 1"),
    "an unknown threshold": (
        ("months = 12", 'months = 12\ndecide_by = "gut"'),
        "[value]",
        "key 'decide_by' is 'gut'",
        "expected one of: profit, f1, capacity",
    ),
    "a threshold without its number": (
        ("months = 12", 'months = 12\ndecide_by = "capacity"'),
        "[value]",
        "'capacity'",
        "",
    ),
    "a value that is no text": (
        ("months = 12", "months = 12\nvalue = 30"),
        "[value]",
        "key 'value' is 30; expected an expression over columns in quotes",
        "monthly_value and months",
    ),
    "a value that is nothing": (("months = 12", 'value = " "'), "[value]", "key 'value' is ' '", "in quotes"),
    "a value that is no table": (("[value]", "[[value]]"), "[value]", "found a list", "expected a table"),
    "a save rate that is a list": (
        ("save_rate = 0.1", "save_rate = [0.1]"),
        "[value]",
        "key 'save_rate' is a list",
        "expected a number, the name of a column, or a table with column, default and rates",
    ),
    "a save rate by an unknown column": (
        ("save_rate = 0.1", 'save_rate = "spent"'),
        "[value] save_rate",
        "key 'column' is 'spent'",
        "did you mean 'spend'?",
    ),
    "a save rate by a category": (
        ("save_rate = 0.1", 'save_rate = "plan"'),
        "[value] save_rate",
        "column 'plan' is a category; expected number or integer",
        "give a rate for each of its values",
    ),
    "rates of a number": (
        ("save_rate = 0.1", 'save_rate = { column = "spend", a = 0.1, default = 0.2 }'),
        "[value] save_rate",
        "column 'spend' is a number; expected category or boolean",
        "remove the rates",
    ),
    "a rate of an unknown segment": (
        ("save_rate = 0.1", 'save_rate = { column = "plan", d = 0.1, default = 0.2 }'),
        "[value] save_rate",
        "'d' is no value of column 'plan'",
        "one of: a, b, c",
    ),
    "rates without a default": (
        ("save_rate = 0.1", 'save_rate = { column = "plan", a = 0.1 }'),
        "[value] save_rate",
        "key 'default' is missing",
        "column, default",
    ),
    "a rate over one": (
        ("save_rate = 0.1", 'save_rate = { column = "plan", a = 2, default = 0.2 }'),
        "[value] save_rate",
        "key 'a' is 2.0",
        "0.0 to 1.0",
    ),
    "too large a control group": (
        ("months = 12", "months = 12\ncontrol_share = 0.9"),
        "[value]",
        "key 'control_share' is 0.9",
        "0.0 to 0.5",
    ),
    "a share of rejected rows over one": (
        ("[value]", "[quality]\nmax_rejected_share = 5\n\n[value]"),
        "[quality]",
        "key 'max_rejected_share' is 5",
        "0.0 to 1.0",
    ),
    "too small a minimum": (
        ("[value]", "[quality]\nmin_rows = 1\n\n[value]"),
        "[quality]",
        "key 'min_rows' is 1",
        "at least 2",
    ),
    "a floor over one": (
        ("[value]", "[quality]\npr_auc_floor = 60\n\n[value]"),
        "[quality]",
        "key 'pr_auc_floor' is 60",
        "0.0 to 1.0",
    ),
    "an empty window": (
        ("[monitoring]", "[monitoring]\nwindow = 0\nfloor = 0"),
        "[monitoring]",
        "key 'window' is 0",
        "at least 1",
    ),
    "a floor over the window": (
        ("[monitoring]", "[monitoring]\nwindow = 100"),
        "[monitoring]",
        "floor 500 is above window 100",
        "",
    ),
    "weights of a canary that fall": (
        ("[monitoring]", "[release]\ncanary_weights = [0.5, 0.25]\n\n[monitoring]"),
        "[release]",
        "canary_weights is 0.5, 0.25",
        "expected rising shares",
    ),
    "a canary that begins with every customer": (
        ("[monitoring]", "[release]\ncanary_weights = [1]\n\n[monitoring]"),
        "[release]",
        "canary_weights begins with 1, which leaves the champion no customer to compare with",
        "expected a first share under 1",
    ),
    "a canary without weights": (
        ("[monitoring]", "[release]\ncanary_weights = []\n\n[monitoring]"),
        "[release]",
        "canary_weights is empty",
        "expected rising shares",
    ),
    "a weight of a canary that is a text": (
        ("[monitoring]", '[release]\ncanary_weights = ["all"]\n\n[monitoring]'),
        "[release]",
        "expected a list of numbers",
        "",
    ),
    "a silent column that is none": (
        ('silent = ["joined"]', 'silent = ["join"]'),
        "[monitoring]",
        "key 'silent' is 'join'",
        "did you mean 'joined'?",
    ),
}


@pytest.mark.parametrize(("change", "place", "found", "allowed"), BROKEN.values(), ids=BROKEN)
def test_an_error_in_a_contract_has_file_table_key_value_and_allowed_values(change, place, found, allowed):
    good, bad = change
    assert SMALL.count(good) >= 1, "the table above no longer fits the small contract"
    with pytest.raises(ContractError) as caught:
        parse_contract(SMALL.replace(good, bad, 1), "small.toml")
    message = str(caught.value)
    assert message.startswith(f"small.toml, {place}: ")
    assert found in message
    assert allowed in message
    assert "\n" not in message


# expression of a feature, position, words
BAD_EXPRESSIONS = {
    "nothing": ("", 1, "does not parse"),
    "half a sum": ("visits +", 9, "does not parse"),
    "two expressions": ("visits; spend", 7, "does not parse"),
    "an assignment": ("visits = 5", 1, "does not parse"),
    "an unknown function": ("log(visits)", 1, "unknown function 'log'; did you mean 'log1p'?"),
    "an unknown name": ("1 + visit", 5, "unknown name 'visit'; did you mean 'visits'?"),
    "a column not quoted": ("1 + column(visits)", 5, "column takes one name in quotes"),
    "the label": ("visits + lost", 10, "column 'lost' (text, role label) cannot be used here"),
    "the key": ("isnull(id)", 8, "column 'id' (id, role key) cannot be used here"),
    "an ignored column": ("isnull(note)", 8, "role ignore) cannot be used here"),
    "a function as a name": ("visits + min", 10, "unknown name 'min'"),
    "too few arguments": ("clip(visits, 1)", 1, "the number of arguments of clip is 2; expected 3"),
    "too many arguments": ("log1p(visits, 1)", 1, "the number of arguments of log1p is 2; expected 1"),
    "one thing has no minimum": ("min(visits)", 1, "the number of arguments of min is 1; expected two or more"),
    "named arguments": ("clip(visits, low=1, high=2)", 1, "is not part of the language"),
    "a power": ("visits ** 2", 1, "'visits ** 2' is not part of the language; see docs/contract.md"),
    "a remainder": ("visits % 2", 1, "is not part of the language"),
    "a plus sign": ("+visits", 1, "is not part of the language"),
    "an attribute": ("visits.mean", 1, "is not part of the language"),
    "a call of an attribute": ("visits.mean()", 1, "is not part of the language"),
    "an index": ("visits[0]", 1, "is not part of the language"),
    "a lambda": ("(lambda: 1)()", 1, "is not part of the language"),
    "a comprehension": ("min([1 for x in visits], 1)", 5, "is not part of the language"),
    "a conditional": ("1 if member else 0", 1, "is not part of the language"),
    "a star": ("min(*visits, 1)", 5, "is not part of the language"),
    "a text": ("'a'", 1, "is not part of the language"),
    "an import": ("__import__('os')", 1, "unknown function '__import__'"),
    "an imaginary number": ("visits + 1j", 10, "is not part of the language"),
    "an infinite number": ("visits + 1e999", 10, "the number is too large"),
    "a very long number": ("visits + 1" + "0" * 400, 10, "the number is too large"),
    "a truth": ("visits + True", 10, "write 1 for true and 0 for false"),
    "a chain of comparisons": ("0 < visits < 5", 1, "join two comparisons by 'and'"),
    "membership": ("visits in spend", 1, "is not part of the language"),
    "a date and a number": ("joined < visits", 1, "cannot compare a date with a number"),
    "a date plus a date": ("joined + seen", 1, "cannot combine a date and a date"),
    "a number minus a date": ("visits - seen", 1, "cannot combine a number and a date"),
    "a date as the result": ("seen + 5", 1, "the result is a date; expected a number"),
    "a category as the result": ("plan", 1, "the result is a category; expected a number"),
    "a category in a sum": ("visits + plan", 1, "cannot combine a number and a category"),
    "a choice that is none": ("plan == 'd'", 1, "compare 'plan' by == or != with one of: a, b, c"),
    "an order of choices": ("plan < 'b'", 1, "compare 'plan' by == or != with one of: a, b, c"),
    "a number against text": (
        "visits == 'a'",
        1,
        "a number is compared with text; expected a date or a category column",
    ),
    "a date that is none": ("joined < '2014-02-30'", 1, "'2014-02-30' is not a date; expected one such as 2014-01-20"),
    "a function of the wrong type": ("month(visits)", 7, "'visits' is a number; month expects a date"),
    "not of a date": ("not joined", 5, "'joined' is a date; not expects a number"),
    "minus of a date": ("-joined", 2, "'joined' is a date; - expects a number"),
    "and of a category": ("plan and visits", 1, "'plan' is a category; and / or expects a number"),
    "after wide characters": ("(plan == 'é') + 1", 2, "compare 'plan' by == or !="),
    "a position after wide characters": ("visits + é + spend * nothing", 10, "unknown name 'é'"),
    "over several lines": ("visits +\n  nothing", 12, "unknown name 'nothing'"),
    "a long sum": (" + ".join(["visits"] * 60), 1, "is nested more than 50 levels deep"),
    "many brackets": ("(" * 300 + "visits" + ")" * 300, 1, "does not parse"),
    "many signs": ("-" * 5000 + "visits", 1, ""),
}


@pytest.mark.parametrize(("expression", "position", "words"), BAD_EXPRESSIONS.values(), ids=BAD_EXPRESSIONS)
def test_an_error_in_an_expression_has_file_feature_and_position(expression, position, words):
    with pytest.raises(ExpressionError) as caught:
        small(wrong=expression)
    message = str(caught.value)
    assert message.startswith("small.toml, [features] 'wrong', position ")
    assert words in message
    assert "\n" not in message
    if words not in ("", "does not parse"):
        assert f"position {position} of " in message


def test_a_cycle_between_features_is_shown_whole():
    with pytest.raises(
        ExpressionError,
        match=r"small.toml, \[features\]: a -> b -> c -> a is a cycle; expected features that do not read themselves",
    ):
        small(a="b + 1", b="visits * c", c="a")
    with pytest.raises(ExpressionError, match="a -> a is a cycle;"):
        small(a="a + 1")


def test_features_may_stand_in_any_order():
    contract = small(c="b + a", b="a * 2", a="visits")
    assert [e.name for e in expressions.parse_features(contract)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("joined", "the result is not a condition; expected a comparison"),
        ("spend_per_visit > 1", "unknown name 'spend_per_visit'"),
        ("spend > typical(spend, visits)", "typical is fitted"),
    ],
)
def test_an_error_in_a_rule_has_file_rule_and_position(expression, words):
    with pytest.raises(ExpressionError, match=r"small.toml, \[\[rules\]\] 'joined_first', position") as caught:
        parse_contract(SMALL.replace("joined <= seen", expression), "small.toml")
    assert words in str(caught.value)


def test_a_contract_without_a_model_input_is_an_error():
    blind = SMALL[: SMALL.index('[[columns]]\nname = "spend"')] + SMALL[SMALL.index("[[rules]]") :]
    with pytest.raises(ContractError, match="expected at least 1 model input"):
        parse_contract(blind, "small.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "is not TOML: Invalid value"),
        ("x = 1\nx = 2", "is not TOML: Cannot overwrite a value"),
        (f"x = {'9' * 5000}", "is not TOML: "),
        (f"x = {'[' * 3000}", "is not TOML: "),
        ("name = 'x'\x00", "is not TOML: "),
    ],
    ids=["no value", "a key twice", "a very long number", "very deep", "a NUL"],
)
def test_text_that_is_not_toml_is_an_error_of_one_line(text, words):
    with pytest.raises(ContractError) as caught:
        parse_contract(text, "x.toml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["label", "columns", "value"])
def test_a_contract_without_a_required_table_is_an_error(missing):
    whole = {
        "label": ("[label]", "[source]\n"),
        "columns": ("[[columns]]", "[[rules]]"),
        "value": ("[value]", "[quality]"),
    }
    with pytest.raises(ContractError, match=r"x.toml, the top level: ") as caught:
        parse_contract(f"name = 'x'\n{''.join(f'{k} = 1' + chr(10) for k in whole if k != missing)}", "x.toml")
    assert f"key '{missing}' is missing; required: name, label, columns, value" in str(caught.value)


@pytest.mark.parametrize("columns", ["columns = []", "columns = 5", "columns = [1]"])
def test_columns_must_be_tables(columns):
    start, end = SMALL.index("[[columns]]"), SMALL.index("[features]")
    text = columns + "\n" + SMALL[:start] + SMALL[end:]
    with pytest.raises(ContractError, match=r"\[\[columns\]\].*: found .*expected"):
        parse_contract(text, "x.toml")


def test_a_missing_file_names_the_contracts_that_are_there(tmp_path):
    with pytest.raises(
        ContractError, match=r"no contract at .*shop.toml; contracts there: store.toml, telecom.toml; set"
    ):
        load_contract(ROOT / "contracts" / "shop.toml")
    with pytest.raises(ContractError, match=r"that folder has no .toml file"):
        load_contract(tmp_path / "nowhere" / "shop.toml")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00")], ids=["dir", "bytes"])
def test_a_file_that_is_not_text_is_an_error(tmp_path, make):
    path = tmp_path / "x.toml"
    make(path)
    with pytest.raises(ContractError, match="expected UTF-8 text"):
        load_contract(path)


def test_a_byte_order_mark_is_no_part_of_the_contract(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(SMALL, encoding="utf-8-sig")
    assert load_contract(path).fingerprint == parse_contract(SMALL).fingerprint


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_the_contracts_that_are_shipped_load_and_describe_everything(contract):
    assert all(column.doc for column in contract.columns)
    assert all(feature.doc for feature in contract.features)
    assert all(rule.doc for rule in contract.rules)
    assert contract.title
    assert contract.label.meaning
    assert contract.where.endswith(f"{contract.name}.toml")


def test_the_error_for_an_unknown_column_lists_the_columns():
    with pytest.raises(ContractError, match=r"small.*: no column 'x'; expected one of: id, lost, joined"):
        parse_contract(SMALL).column("x")


def test_every_check_fails_in_some_test():
    """Completeness: each `fail(...)` in the package's contract modules is reached by the tables above."""
    reached = set()
    texts = [SMALL.replace(*change, 1) for change, *_ in BROKEN.values()]
    for text in texts:
        with pytest.raises(ContractError) as caught:
            parse_contract(text, "small.toml")
        reached |= _failing_lines(caught.value)
    for expression, *_ in BAD_EXPRESSIONS.values():
        with pytest.raises(ContractError) as caught:
            small(wrong=expression)
        reached |= _failing_lines(caught.value)
    for rule in ("joined", "spend > typical(spend, visits)"):
        with pytest.raises(ContractError) as caught:
            parse_contract(SMALL.replace("joined <= seen", rule), "small.toml")
        reached |= _failing_lines(caught.value)
    written = {
        (module.__name__, node.lineno)
        for module in (check, load, expressions)
        for node in ast.walk(ast.parse(Path(inspect.getfile(module)).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "fail"
    }
    elsewhere = {  # tested above by functions of their own
        "expected at least 1 model input",
        "expected one [[columns]] table for each column",
    }
    missed = {
        f"{name}:{line}"
        for name, line in written - reached
        if not any(words in _source(name, line) for words in elsewhere)
    }
    assert missed == set()


def _failing_lines(error: BaseException) -> set[tuple[str, int]]:
    found = set()
    for raised in filter(None, (error, error.__context__)):  # the place, to which the reader adds the file
        for frame, line in traceback.walk_tb(raised.__traceback__):
            found.add((frame.f_globals["__name__"], line))
    return found


def _source(module: str, line: int) -> str:
    found = {m.__name__: m for m in (check, load, expressions)}[module]
    return "".join(inspect.getsource(found).splitlines(keepends=True)[line - 1 : line + 3])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        ("Yes", "Yes"),
        (1e300, "1e+300"),
    ],
)
def test_a_value_reads_as_its_cell_would(value, text):
    assert canonical_text(value) == text


@given(text=st.text(max_size=200))
def test_no_text_makes_the_reader_fail_in_another_way(text):
    with pytest.raises(ContractError) as caught:
        parse_contract(text, "x.toml")
    assert "\n" not in str(caught.value)


_WORDS = [
    *expressions.FUNCTIONS, "visits", "spend", "joined", "seen", "plan", "member", "as_of", "'a'", "'2014-01-20'",
    "1", "0.5", "(", ")", ",", "+", "-", "*", "/", "<", "==", "and", "or", "not", " ",
]  # fmt: skip


@given(words=st.lists(st.sampled_from(_WORDS), max_size=14))
def test_no_expression_makes_the_parser_fail_in_another_way(words):
    text = " ".join(words).replace("'", '"')
    message = "small.toml, [features] 'x', position "
    with contextlib.suppress(ExpressionError):
        small(x=text)
        message = ""  # a good expression
    if message:
        with pytest.raises(ExpressionError, match=re.escape(message)):
            small(x=text)
