"""Templates: text is text, numbers keep their exact value, a missing name is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import churn_assets
from churn_assets.html import templating
from churn_assets.html.templating import (
    escape_markdown,
    external_references,
    html_number,
    labelled_cells,
    markdown_table,
    module,
    render,
    rounding,
)
from churn_assets_tests.html.reader import read

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40)
ROOT = Path(churn_assets.__file__).parent
HOSTILE = "<script>alert(1)</script>\" onload='x"


@given(TEXT)
def test_any_text_comes_back_as_text_and_makes_no_element(text):
    reader = read(str(module("html/templates/parts.html.j2").not_computed(text)))
    assert "".join(reader.text).strip() == f"Not computed in this run: {text}."
    assert [tag for tag, _ in reader.tags] == ["p", "strong"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_shown_number_keeps_the_exact_one(value):
    ((tag, attributes),) = read(html_number(value, ".2f")).tags
    assert tag == "data"
    assert float(attributes["value"]) == value


@pytest.mark.parametrize("value", [None, {"value": None, "low": None, "high": None}])
def test_a_number_that_is_not_there_is_a_dash(value):
    text = read(str(module("html/templates/parts.html.j2").estimate(value))).text
    assert "".join(text).strip() == "\N{EM DASH}"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.9701, 0.9831, "0.977"),  # half the interval is .0065: one digit
        (0.456, 0.584, "0.98"),
        (0.0711, 0.0956, "0.977"),  # .012: two digits, because it begins with 1
        (0.2, 0.8, "0.98"),  # .30: two digits
        (0.0, 8.0, "1"),
        (0.5, 0.5, "0.977"),  # no spread: three digits
        (None, None, "0.977"),
    ],
)
def test_a_number_is_rounded_to_what_its_interval_allows(low, high, shown):
    assert format(0.97712, rounding(low, high)) == shown


def test_a_share_is_rounded_as_per_cent():
    assert format(0.8796, rounding(0.85, 0.91, "%")) == "88.0%"
    assert format(0.8796, rounding(0.7, 1.0, "%")) == "88%"


def test_each_cell_of_a_table_carries_the_name_of_its_column():
    rows = labelled_cells('<tr><td>a</td><td class="n">1</td></tr>\n<tr><td>b</td></tr>', ["name", HOSTILE])
    cells = [attributes for tag, attributes in read(f"<table>{rows}</table>").tags if tag == "td"]
    assert [cell["data-label"] for cell in cells] == ["name", HOSTILE, "name"]
    with pytest.raises(ValueError, match="more cells than the 1 columns"):
        labelled_cells("<tr><td>a</td><td>b</td></tr>", ["name"])


def test_a_page_names_its_language_width_and_colour_schemes_and_escapes_its_names():
    text = render("html/templates/page.html.j2", title=HOSTILE, contents=[("a", HOSTILE)])
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert "width=device-width" in text
    assert "prefers-color-scheme:dark" in text
    reader = read(text)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)


def test_a_name_that_the_data_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="contents"):
        render("html/templates/page.html.j2", title="t")


@given(TEXT)
def test_markdown_of_a_text_is_one_line_without_markup(text):
    escaped = escape_markdown(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert all(escaped[i - 1] == "\\" for i, letter in enumerate(escaped) if letter in "|*_`[]#")


def test_a_markdown_table_escapes_bars_and_says_when_it_is_empty():
    assert markdown_table(["a", "b"], [["x|y", None]]).splitlines() == ["| a | b |", "| --- | --- |", "| x\\|y |  |"]
    assert markdown_table(["a"], []) == "none yet"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.j2")), ids=lambda path: path.name)
def test_every_template_compiles_and_lies_in_a_folder_of_templates(path):
    assert path.parent.name == "templates"
    name = path.relative_to(ROOT).as_posix()
    environment = templating._markdown_environment() if name.endswith(".md.j2") else templating._html_environment()
    environment.get_template(name)


@pytest.mark.parametrize(
    ("page", "references"),
    [
        ('<p style="x">text</p><a href="#part">part</a><img src="data:image/png;base64,AA==">', []),
        ("<script>1</script>", ["script"]),
        ('<img src="https://a.example/b.png" onload="f()">', ["img onload=f()", "img src=https://a.example/b.png"]),
        ("<style>p { background: url(x.png) }</style>", ["style"]),
        (
            '<svg xmlns="http://www.w3.org/2000/svg"><use xlink:href="other.svg#a"/></svg>',
            ["use xlink:href=other.svg#a"],
        ),
    ],
)
def test_what_a_page_would_fetch_or_run_is_listed(page, references):
    assert external_references(page) == references
