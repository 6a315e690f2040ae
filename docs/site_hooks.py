"""MkDocs hooks: pages that lie outside docs/ become part of the site, and links to them stay right.

A link in Markdown is relative to the file it stands in, so that it works in the repository. In the site the pages of
`OUTSIDE` lie below `project/`; each link is resolved in the repository and written again for the site.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "benchmarks/RESULTS.md")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")


def on_config(config: Any) -> Any:
    """Fill the section *Decisions* with the pages there are."""
    pages = sorted(f"decisions/{path.name}" for path in (ROOT / "docs" / "decisions").glob("*.md"))
    for section in config.nav:
        for entry in next(iter(section.values())) if isinstance(next(iter(section.values())), list) else []:
            if "Decisions" in entry:
                entry["Decisions"] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of `OUTSIDE`."""
    for name in OUTSIDE:
        content = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"project/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Write the links of a page for the site; fenced blocks stay as they are."""
    uri = page.file.src_uri
    here = in_repository(uri)

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        return f"]({os.path.relpath(in_site(target), posixpath.dirname(uri) or '.')}{match[2] or ''})"

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(rewrite, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(rewrite, markdown[end:])])


def in_repository(uri: str) -> str:
    """The path in the repository of a page of the site."""
    return uri.removeprefix("project/") if uri.startswith("project/") else f"docs/{uri}"


def in_site(path: str) -> str:
    """The path in the site of a file of the repository; one that the site does not have is reported by MkDocs."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"project/{path}"
