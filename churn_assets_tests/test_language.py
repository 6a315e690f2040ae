"""One word, one meaning: names, docstrings and pages do without the words that docs/glossary.md replaces."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from churn_assets_tests.strategies import ROOT

PACKAGE = sorted((ROOT / "churn_assets").rglob("*.py"))
PAGES = [
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    if path.name not in ("CHANGELOG.md", "glossary.md", "0013-one-folder-a-subject.md")
]

# Parts of names, split at underscores and capitals: `_told_so` and `ToldTwice` have the part `told`.
NAMES = {"told", "said", "hushed", "mourn", "bury", "knock", "vouch", "duel", "succession", "knobs"}
# Whole names of functions, classes, parameters and variables.
WHOLE_NAMES = {"found", "words", "what", "sound", "standing", "family", "situation", "telling", "look"}
# Folders whose names are not yet all renamed; take one out as soon as it is. None is added.
PENDING = {"drafting", "errors.py", "features", "prediction_log", "storage", "synthetic"}
# In docstrings and pages; docstrings of the pending folders are not read.
PHRASES = [
    r"hush(ed|es)?",
    r"mourn(s|ed|ing)?",
    r"vouch(es|ed)?( for)?",
    r"let lie",
    r"(?<!there )(is|are) no (file|folder|number)",
    r"learnt",
    r"left in peace",
    r"named as churner",
    r"has spoilt",
    r"goes with it",
    r"succession",
]
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def parts(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def names_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that the module defines: functions, classes, parameters, variables, imports under another name.

    Fields of a class are left out: some are keys of a stored or sent form.
    """
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    fields = {id(entry.target) for body in bodies for entry in body if isinstance(entry, ast.AnnAssign)}
    for node in ast.walk(tree):
        if id(node) in fields:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, 0


def docstrings_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text = ast.get_docstring(node)
            if text:
                yield text, getattr(node, "lineno", 1)


@cache
def names() -> list[tuple[Path, str, int]]:
    """(module, name, line) of all names that count."""
    return [(path, name, line) for path, tree in trees() for name, line in names_of(tree)]


@cache
def trees() -> list[tuple[Path, ast.AST]]:
    """The modules that count."""
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in PACKAGE if not is_pending(path)]


@cache
def texts() -> list[tuple[Path, str, int]]:
    """(file, text, first line) of all docstrings and pages that count."""
    docstrings = [(path, text, line) for path, tree in trees() for text, line in docstrings_of(tree)]
    read = [(page, page.read_text(encoding="utf-8")) for page in PAGES]
    pages = [(page, FENCE.sub(lambda m: "\n" * m[0].count("\n"), text), 1) for page, text in read]
    return [*docstrings, *pages]


def is_pending(path: Path) -> bool:
    return path.relative_to(ROOT / "churn_assets").parts[0] in PENDING


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_no_name_has_a_part_that_was_replaced():
    hits = [
        f"{place(path, line)} {name}"
        for path, name, line in names()
        if NAMES.intersection(parts(name)) or (path.stem in NAMES)
    ]
    assert hits == [], "docs/glossary.md says which word to use"


def test_no_name_is_a_word_that_was_replaced():
    hits = [f"{place(path, line)} {name}" for path, name, line in names() if name.lstrip("_").lower() in WHOLE_NAMES]
    assert hits == [], "docs/glossary.md says which word to use"


@pytest.mark.parametrize("phrase", PHRASES)
def test_no_docstring_and_no_page_has_a_phrase_that_was_replaced(phrase):
    pattern = re.compile(rf"\b{phrase}\b", re.I)
    hits = [
        f"{place(path, line + text.count(chr(10), 0, match.start()))} {match[0]!r}"
        for path, text, line in texts()
        for match in pattern.finditer(text)
    ]
    assert hits == [], "docs/glossary.md says which word to use"


def test_the_glossary_lists_each_word_once():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [row.split(" | ")[0].removeprefix("| ") for row in text.splitlines() if row.startswith("| ")]
    words = [word for word in words if not word.startswith("---") and word not in ("word", "not")]
    assert len(words) == len(set(words))
