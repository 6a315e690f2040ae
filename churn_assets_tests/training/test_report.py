"""The page of a training: whole, honest, and of nobody's making but ours."""

import dataclasses
from html.parser import HTMLParser

import pytest

from churn_assets.training.package import card
from churn_assets.training.report import GENERATED, training_page
from churn_assets_tests.strategies import STORE

PICTURE = b"\x89PNG"


class Outline(HTMLParser):
    """Checks that tags close in order, and collects what a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.said: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert all("http" not in (value or "") for _, value in attrs), "nothing is loaded from elsewhere"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


@pytest.fixture(scope="module")
def told(choice, candidates, customers):
    return card(STORE, choice, candidates, customers)


def test_the_report_has_both_splits_every_candidate_and_what_is_suspect(told):
    outline = Outline(training_page(STORE, told, {"profit": PICTURE}, "abc", generated=False))
    said = " ".join(outline.said)
    assert outline.open == []
    assert outline.tags.count("img") == 1
    for part in ("validation", "test", "oot"):
        assert f"{told['metrics'][f'{part}_pr_auc']:.4f}" in said
    for row in told["comparison"]:
        assert row["candidate"] in outline.said
    assert [c.name for c in STORE.columns if c.suspect and c.name not in outline.said] == []
    assert GENERATED not in said


def test_generated_customers_are_said_to_be_generated(told):
    assert GENERATED in training_page(STORE, told, {}, "abc", generated=True)


def test_words_of_a_contract_are_words_and_no_markup(told):
    hostile = dataclasses.replace(STORE, title="<script>alert(1)</script>")
    assert "script" not in Outline(training_page(hostile, told, {}, "abc", generated=False)).tags
