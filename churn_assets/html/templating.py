"""Jinja2 templates for pages and Markdown, and the check that a page is self-contained.

A template is named by its path in the package, `reporting/templates/model_report.html.j2`. What it is given is
text unless it says otherwise: HTML is escaped in `*.html.j2`, Markdown and HTML in `*.md.j2`. A name that the
data does not have is an error, not an empty place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from html.parser import HTMLParser
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment
PACKAGE = "churn_assets"
EM_DASH = "\N{EM DASH}"
# Attributes that a browser fetches from; `xmlns` is a name, not an address.
_FETCHED_ATTRIBUTES = frozenset({"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"})
_ROW, _CELL = re.compile(r"<tr\b.*?</tr>", re.S), re.compile(r"<td\b")
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "|*_`[]#"})


def render(template: str, **data: object) -> str:
    """The text of `template` (a path within the package) with `data`. Raises jinja2.UndefinedError for a name that
    neither the data nor the template has."""
    environment = _markdown_environment() if template.endswith(".md.j2") else _html_environment()
    return environment.get_template(template).render(data)


def module(template: str) -> Any:
    """The macros of an HTML template as functions that return markup."""
    return _html_environment().get_template(template).module


def escape_markdown(value: object) -> str:
    """Text as Markdown shows it: no markup of its own, one line."""
    return escape(" ".join(str(value).split()), quote=False).translate(_MARKDOWN)


@cache
def stylesheet(*names: str) -> str:
    """The named style sheets of `html/templates`, white space folded."""
    folder = resources.files(PACKAGE).joinpath("html", "templates")
    texts = (folder.joinpath(f"{name}.css").read_text(encoding="utf-8") for name in names)
    return " ".join(" ".join(texts).split())


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(PACKAGE, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


@cache
def _html_environment() -> Environment:
    environment = _environment(autoescape=True)
    environment.filters["number"] = html_number
    environment.filters["labelled"] = labelled_cells
    environment.globals["rounding"] = rounding
    # The sheets are files of this package: they hold no text of a user.
    environment.globals["page_style"] = Markup(stylesheet("colours", "drawing", "page"))
    environment.globals["chart_style"] = Markup(stylesheet("colours", "drawing"))
    return environment


@cache
def _markdown_environment() -> Environment:
    def finalize(value: object) -> object:
        return value if isinstance(value, (Markup, int, float)) else escape_markdown(value)

    # Escaping HTML is part of `finalize`: Markdown passes HTML through.
    environment = _environment(autoescape=False, finalize=finalize)
    environment.filters["number"] = plain_number
    environment.globals["rounding"] = rounding
    environment.globals["table"] = markdown_table
    return environment


def html_number(value: float | None, form: str = ".3f") -> Markup:
    """A number as people read it, with the exact one in the `data` element; an em dash for None."""
    if value is None:
        return Markup('<span class="none">{}</span>').format(EM_DASH)
    return Markup('<data value="{}">{}</data>').format(repr(value), plain_number(value, form))


def plain_number(value: float | None, form: str = ".3f") -> str:
    """A number as people read it, empty for None.

    >>> plain_number(-0.00004, ".4f"), plain_number(-0.00004, "+.1%")
    ('0.0000', '+0.0%')
    """
    text = "" if value is None else format(value, form)
    return text if any(digit in text for digit in "123456789") or value is None else format(abs(value), form)


def rounding(low: float | None, high: float | None, unit: str = "f", most: int = 6) -> str:
    """The format of a value with the 95 % interval `low` to `high`: the digits that the interval does not make
    meaningless. Half of the interval is kept to two digits if it begins with 1, 2 or 3, else to one (the rule of the
    Particle Data Group). `unit` is 'f' or '%', `most` limits the decimals; three digits without an interval.

    >>> [format(0.97712, rounding(*ends)) for ends in ((0.970, 0.983), (0.91, 1.0), (0.1, 1.0))]
    ['0.977', '0.98', '1.0']
    """
    half = abs(high - low) / 2 * (100 if unit == "%" else 1) if low is not None and high is not None else 0.0
    if not half > 0.0:
        return ".0%" if unit == "%" else ".3g"
    first = math.floor(math.log10(half))
    digits = -first + (1 if round(half / 10.0**first, 2) < 3.55 else 0)
    return f".{min(most, max(0, digits))}{unit}"


def labelled_cells(rows: str, head: Sequence[str]) -> Markup:
    """Rows of a table, each cell with the name of its column: on a phone a row is folded into lines of name and value.
    A row with more cells than `head` raises ValueError."""

    def label(row: re.Match[str]) -> str:
        names = iter([*head, None])

        def cell(match: re.Match[str]) -> str:
            name = next(names)
            if name is None:
                raise ValueError(f"a table row has more cells than the {len(head)} columns {', '.join(head)}")
            return f'{match[0]} data-label="{escape(name)}"'

        return _CELL.sub(cell, row[0])

    return Markup(_ROW.sub(label, rows))


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """A Markdown table of text cells, or 'none yet' without a row."""
    lines = [[escape_markdown("" if cell is None else cell) for cell in line] for line in (head, *rows)]
    if len(lines) == 1:
        return Markup("none yet")
    lines.insert(1, ["---"] * len(head))
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def external_references(page: str) -> list[str]:
    """What a browser would fetch or run for this HTML page, sorted; empty for a self-contained page."""
    collector = _ReferenceCollector()
    collector.feed(page)
    collector.close()
    return sorted(collector.references)


class _ReferenceCollector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.references: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "object", "embed", "link"}:
            self.references.add(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in _FETCHED_ATTRIBUTES and not (value or "").startswith(("#", "data:"))):
                self.references.add(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<style>" and ("url(" in data or "@import" in data):
            self.references.add("style")
