"""Every page, on a home with data and on an empty one: it answers, loads nothing from elsewhere, and its numbers are
those of its JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import duckdb
import pytest

from churn_assets.dashboard.pages.registry import PAGES
from churn_assets_tests.dashboard.browser import numbers_in, read
from churn_assets_tests.dashboard.named_sources import SOURCES, Home, unlike
from churn_assets_tests.test_home_0_1 import CHAMPION, FIRST, REFUSED, WAITING
from churn_assets_tests.test_imports import HEAVY

CUSTOMER = "C00000214"  # the first of the list
LISTS = ("/calls", "/customer", "/try", "/compare")
QUERIES = {"/customer": f"?id={CUSTOMER}", "/compare": f"?a={CHAMPION}&b={WAITING}"}
PATHS = {
    page.path: tuple(path.format(version=CHAMPION) + QUERIES.get(page.path, "") for path in (page.path, page.json_path))
    for page in PAGES
}


CHOICES = {
    "/calls": ("capacity=100&budget=250&column=favday&level=Monday&planned=1", "band=low&reason=no+order"),
    "/customer": ("id=102-C00000000",),
    "/monitoring": (
        "window=4&every=1&days=1",
        f"version={CHAMPION}&segment=favday%3DMonday&column=favday&days=30",
        "segment=paperless%3Dyes",
    ),
    "/try": ("sample=high",),
}
STATES = {
    **{page: (path, page, json_path) for path, (page, json_path) in PATHS.items()},
    **{
        f"{path}?{query}": (path, f"{path}?{query}", f"{path}.json?{query}")
        for path in CHOICES
        for query in CHOICES[path]
    },
    **{
        f"/models/{version}": ("/models/{version}", f"/models/{version}", f"/models/{version}.json")
        for version in (WAITING, REFUSED, FIRST)
    },
}


@pytest.fixture(scope="module")
def home(made):
    with duckdb.connect(str(made.warehouse_dir / "published.duckdb"), read_only=True) as log:
        yield Home(made, log)


@pytest.mark.parametrize("state", STATES)
def test_a_page_shows_the_numbers_of_its_json_and_these_are_those_of_their_sources(visitor, home, state):
    path, page, json_path = STATES[state]
    content, values = visitor.get(page), visitor.json(json_path)
    assert content.numbers or path == "/try", "a page without a number"
    assert [number for number in content.numbers if number not in set(numbers_in(values))] == []
    assert unlike(values, SOURCES[path](home, values)) == []


@pytest.mark.parametrize("state", STATES)
def test_each_chart_of_a_page_says_its_figures_in_words(visitor, state):
    charts = re.findall(r'<svg [^>]*role="img" aria-label="([^"]*)"', visitor.client.get(STATES[state][1]).text)
    assert [label for label in charts if not re.search(r": .*\d", label)] == []
    assert len(charts) == len(re.findall("<svg", visitor.client.get(STATES[state][1]).text))


@pytest.mark.parametrize("path", PATHS)
def test_a_page_loads_nothing_from_elsewhere_and_fits_its_policy(visitor, path):
    response = visitor.client.get(PATHS[path][0])
    content, policy = read(response), response.headers["content-security-policy"]
    assert [address for address in content.addresses if not re.match(r"/(?!/)|#|\?|$", address)] == []
    assert content.forbidden == []
    assert len(content.ids) == len(set(content.ids))
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for address in content.addresses:
        if address.startswith("/static/"):
            file = visitor.client.get(address)
            assert file.status_code == 200
            assert "immutable" in file.headers["cache-control"]


@pytest.mark.parametrize("path", [path for path in PATHS if "{" not in path and path not in QUERIES])
def test_a_page_of_an_empty_home_says_which_command_fills_it(stranger, path):
    content = stranger.get(path)
    assert "churn " in content.text or "dagster " in content.text
    assert not stranger.dashboard.sources.settings.home.exists()


def test_an_unknown_page_is_one(visitor):
    assert "There is no such page" in visitor.get("/nothing", 404).text
    assert visitor.client.get("/nothing.json").json()["error"]
    assert visitor.client.get("/static/htmx.js").status_code == 404


_VISITS = """
import json, sys
from pathlib import Path
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import visit
home, contract, *groups = sys.argv[1:]
visitor = visit(Settings(root=Path(home), home=Path(home), contract_path=Path(contract)))
for group in groups:
    for path in group.split():
        visitor.get(path)
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_no_page_loads_a_heavy_library(made):
    """But what reads tables of customers: Arrow itself imports pandas to make an array of Python's values."""
    pages = {path: page for path, (page, _) in PATHS.items()}
    others, lists = [page for path, page in pages.items() if path not in LISTS], [pages[path] for path in LISTS]
    command = [
        sys.executable,
        "-c",
        _VISITS,
        str(made.home),
        str(made.contract_path),
        " ".join(others),
        " ".join(lists),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    of_others, of_all = (set(json.loads(line)) & HEAVY for line in done.stdout.splitlines())
    assert of_others == set()
    assert of_all <= {"pandas"}
