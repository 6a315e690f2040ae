"""Reads a page as a browser would: text, attributes, nesting."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset({"br", "meta", "hr", "link", "input"})


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
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader
