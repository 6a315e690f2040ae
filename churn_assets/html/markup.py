"""HTML as nested calls. Whatever is not `Markup` is text and is escaped: there is no other way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from churn_assets.html.theme import page_style


class Markup(str):
    """Text that is HTML already, because this module made it."""

    __slots__ = ()


VOID = frozenset({"br", "meta", "hr"})


def el(name: str, *children: object, **attributes: object) -> Markup:
    """`<name attributes>children</name>`; `class_` is class, `_` in a name is `-`, None leaves an attribute out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>" if name in VOID else f"<{name}{told}>{inside(children)}</{name}>")


def inside(content: object) -> Markup:
    """Content as HTML: strings escaped, markup as it is, sequences one after the other, None nothing."""
    if content is None:
        return Markup()
    if isinstance(content, Markup):
        return content
    if isinstance(content, Iterable) and not isinstance(content, str):
        return Markup("".join(inside(part) for part in content))
    return Markup(escape(str(content)))


def number(value: float | None, form: str = ".3f") -> Markup:
    """A number as people read it, with the exact one in the `data` element; an em dash for none."""
    if value is None:
        return el("span", "\N{EM DASH}", class_="none")
    return el("data", format(value, form), value=repr(value))


def estimate(found: dict[str, float | None] | None, form: str = ".3f") -> Markup:
    """A value with its 95 % interval below it, from a mapping with `value`, `low` and `high`."""
    if found is None or found.get("value") is None:
        return number(None)
    low, high = found.get("low"), found.get("high")
    if low is None or high is None:
        return number(found["value"], form)
    between = el("small", number(low, form), " \N{EN DASH} ", number(high, form))
    return inside([number(found["value"], form), " ", between])


def table(head: Sequence[object], rows: Iterable[Sequence[object]], numeric: Iterable[int] = ()) -> Markup:
    """A table that scrolls sideways by itself where it is too wide; columns in `numeric` stand to the right."""
    right = set(numeric)

    def cells(name: str, row: Sequence[object]) -> list[Markup]:
        return [el(name, cell, class_="n" if i in right else None) for i, cell in enumerate(row)]

    body = [el("tr", cells("td", row)) for row in rows]
    made = el("table", el("thead", el("tr", cells("th", head))), el("tbody", body))
    return el("div", made, class_="scroll", tabindex="0")


def section(anchor: str, title: str, *content: object, lead: object = None) -> Markup:
    """A titled part of a page with an anchor, and a sentence that says what is to be seen in it."""
    return el("section", el("h2", title), el("p", lead, class_="lead") if lead else None, content, id=anchor)


def card(title: str, *content: object, note: object = None, wide: bool = False) -> Markup:
    """A box with a heading and, below, a note on how to read it."""
    told = el("p", note, class_="note") if note else None
    heading = el("h3", title) if title else None
    return el("div", heading, content, told, class_="card wide" if wide else "card")


def grid(*cards: object) -> Markup:
    """Boxes side by side where there is room."""
    return el("div", cards, class_="grid")


def absent(what: str, why: str = "") -> Markup:
    """Said in place of something this run has not made; nothing is made up for it."""
    return el("p", el("strong", "Not computed in this run: "), f"{what}. ", why, class_="absent")


def page(title: str, header: object, sections: Sequence[tuple[str, str, Markup]]) -> str:
    """A whole document: `sections` are (anchor, words in the table of contents, content)."""
    links = [el("a", words, href=f"#{anchor}") for anchor, words, _ in sections]
    body = [
        el("header", el("div", header, class_="inner")),
        el("nav", el("div", links, class_="inner"), aria_label="Contents"),
        el("main", [content for _, _, content in sections]),
    ]
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{page_style()}</style></head>\n<body>{inside(body)}</body></html>\n"
    )
