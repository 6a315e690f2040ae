"""The files of a project: `churn init` writes them, and an empty folder falls back on them.

The contracts and the files of Dagster are copies of the ones at the top level of the repository; a test compares them.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from churn_assets.errors import SettingsError
from churn_assets.settings import STARTER

_RENAMED = {"gitignore": ".gitignore"}  # hidden files are easily lost on the way into a wheel


def starter_files() -> dict[str, str]:
    """Path below the project -> text, of every file of a new project."""
    paths = {path.relative_to(STARTER).as_posix(): path for path in sorted(STARTER.rglob("*")) if path.is_file()}
    return {
        _RENAMED.get(name, name): path.read_text(encoding="utf-8").replace("@VERSION@", version("churn-assets"))
        for name, path in paths.items()
        if path.suffix not in (".py", ".pyc")
    }


def write_project(folder: Path) -> list[str]:
    """Write a new project into `folder` and return the names of its files. Raises SettingsError, and writes nothing, if
    one of them is there already or the folder cannot be written."""
    files = starter_files()
    present = sorted(name for name in files if (folder / name).exists())
    if present:
        raise SettingsError(
            f"{folder} already has {', '.join(present)}; expected a folder without them; name another, or remove them"
        )
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be written ({error.strerror}); expected a folder that can be written; name another"
            ) from error
    return sorted(files)
