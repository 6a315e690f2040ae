"""Pages on disk."""

from __future__ import annotations

from pathlib import Path


def put(path: Path, text: str) -> Path:
    """Write a text so that a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    return scratch.replace(path)
