"""Style sheets and scripts, each under a name that has its hash, so that browsers keep it for ever."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources

from churn_assets.html.templating import stylesheet

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_SCRIPTS = ("htmx.js", "uplot.js", "dashboard.js")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2457c5"/>'
    '<path d="M7 9l7 8 5-4 6 10" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" '
    'stroke-linejoin="round"/></svg>'
)


@cache
def static_files() -> dict[str, tuple[str, bytes]]:
    """(type, content) by the hashed name."""
    return {hashed: (_TYPES[name.rpartition(".")[2]], content) for name, hashed, content in _files()}


@cache
def static_names() -> dict[str, str]:
    """The path of each file by its plain name, as templates use it."""
    return {name: f"/static/{hashed}" for name, hashed, _ in _files()}


@cache
def _files() -> tuple[tuple[str, str, bytes], ...]:
    folder = resources.files(__package__).joinpath("static")
    texts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in (*_SCRIPTS, "uplot.css")}
    own = folder.joinpath("dashboard.css").read_text(encoding="utf-8")
    texts["styles.css"] = "\n".join([stylesheet("colours", "drawing", "page"), texts.pop("uplot.css"), own])
    texts["icon.svg"] = _ICON
    files = []
    for name, text in texts.items():
        content = text.encode()
        stem, _, suffix = name.rpartition(".")
        files.append((name, f"{stem}.{sha256(content).hexdigest()[:12]}.{suffix}", content))
    return tuple(files)
