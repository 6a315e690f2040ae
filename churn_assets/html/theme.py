"""The style of pages and drawings: light and dark by the reader's own setting, one column on a phone."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def page_style() -> str:
    """All there is: colours, drawings, pages."""
    return drawing_style() + _read("page")


@cache
def drawing_style() -> str:
    """What a drawing needs that stands alone."""
    return _read("colours") + _read("drawing")


def _read(name: str) -> str:
    text = resources.files(__package__).joinpath(f"{name}.css").read_text(encoding="utf-8")
    return " ".join(text.split())
