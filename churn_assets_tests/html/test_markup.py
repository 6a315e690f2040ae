"""HTML as nested calls: text is text, numbers keep their exact value, pages are whole."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.html.markup import VOID, Markup, absent, card, el, estimate, inside, number, page, table

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40)


class Reader(HTMLParser):
    """Text, attributes and nesting of a document; a stray or missing end tag raises."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(text: str) -> Reader:
    found = Reader()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


@given(TEXT, TEXT)
def test_any_text_comes_back_as_text_and_makes_no_element(words, attribute):
    found = read(el("p", words, title=attribute))
    assert "".join(found.text) == words
    assert found.tags == [("p", {"title": attribute})]


def test_markup_passes_and_sequences_and_nothing_flatten():
    assert el("p", [el("b", "a"), None, ["<", 1]]) == "<p><b>a</b>&lt;1</p>"
    assert isinstance(inside(["a"]), Markup)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_shown_number_keeps_the_exact_one(value):
    ((tag, attributes),) = read(number(value, ".2f")).tags
    assert tag == "data"
    assert float(attributes["value"]) == value


@pytest.mark.parametrize("found", [None, {"value": None, "low": None, "high": None}])
def test_a_number_that_is_not_there_is_a_dash(found):
    assert "".join(read(estimate(found)).text) == "\N{EM DASH}"


def test_a_hostile_name_stays_words_everywhere():
    hostile = "<script>alert(1)</script>\" onload='x"
    text = page(
        hostile, el("h1", hostile), [("a", hostile, card(hostile, table([hostile], [[hostile]]), note=hostile))]
    )
    found = read(text)
    assert "script" not in {tag for tag, _ in found.tags}
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_a_page_names_its_language_width_and_colour_schemes():
    text = page("t", "h", [("a", "words", absent("this"))])
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert "width=device-width" in text
    assert "prefers-color-scheme:dark" in text
    assert "Not computed in this run: " in text
