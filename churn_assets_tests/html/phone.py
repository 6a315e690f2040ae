"""Whether a page fits on a phone: by its markup and style sheet, and measured in a browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
)
# A window is at least 500 pixels wide, a frame is not. A box that scrolls, or reaches beyond the frame, is cut.
MEASURE = """<title></title><iframe style="width:WIDTHpx; height:2000px; border:0" srcdoc="PAGE"></iframe>
<script>addEventListener("load", () => { const page = document.querySelector("iframe").contentDocument, cut = [];
const width = page.documentElement.clientWidth;
for (const box of page.querySelectorAll(".scroll, .card, .tile, section, svg, .rows"))
  if (box.scrollWidth > box.clientWidth + 1 || box.getBoundingClientRect().right > width + 1)
    cut.push(box.textContent.trim().slice(0, 40));
document.title = JSON.stringify({width, page: page.documentElement.scrollWidth, cut}); })</script>"""


class Tables(HTMLParser):
    """`wide`: a line for each table that a phone would cut: more than two columns and not folded, or a cell of a folded
    table that is not named by its column, or a table outside a box of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.wide: list[str] = []
        self.count = 0
        self._box = self._in_head = False
        self._head: list[str] = []
        self._cell, self._folds = 0, False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        match tag:
            case "div":
                self._box = given.get("class") == "scroll"
            case "table":
                self.count += 1
                self._head, self._folds = [], given.get("class") == "fold"
                self.wide += [] if self._box else [f"table {self.count} has no box of its own"]
            case "th":
                self._in_head = True
                self._head.append("")
            case "tr":
                self._cell = 0
            case "td":
                if len(self._head) > 2 and not (self._folds and given.get("data-label") == self._head[self._cell]):
                    self.wide.append(f"cell {self._cell} of the table with {self._head}")
                self._cell += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "th":
            self._in_head = False

    def handle_data(self, data: str) -> None:
        if self._in_head:
            self._head[-1] += data


def folds_on_a_phone(page: str) -> bool:
    """Whether the style sheet turns rows of folded tables into lines of name and value below 640 pixels."""
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    rules = style[1].partition("@media (max-width:640px)")[2] if style else ""
    return ".fold td { display:flow-root" in rules and "content:attr(data-label)" in rules


def measured(page: str, folder: Path, width: int) -> dict[str, Any]:
    """Width of the screen and of the page, and what is cut, in a browser `width` pixels wide."""
    assert BROWSER is not None
    path = folder / "page.html"
    path.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", escape(page)), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1300,2100", "--dump-dom"]
    result = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    title = re.search(r"<title>(\{.*?\})</title>", result.stdout)
    assert title is not None
    return dict(json.loads(unescape(title[1])))
