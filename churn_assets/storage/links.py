"""Links to homes whose path no URL can hold: Dagster and MLflow put it into one without escaping `%`, `?` and `#`."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from churn_assets.errors import SettingsError
from churn_assets.settings import Settings


def link_home(settings: Settings) -> None:
    """Make `settings.tool_home` lead to the home; nothing to do if it is the home itself.

    The link is in a folder of this user alone below the system's folder for temporary files; it holds no state and may
    be removed at any time. Raises SettingsError if that folder belongs to somebody else.
    """
    link = settings.tool_home
    if link == settings.home:
        return
    folder = link.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_owner(folder, settings.home)
        if not (link.is_symlink() and link.readlink() == settings.home):
            temporary = folder / f".{link.name}.{os.getpid()}"
            temporary.symlink_to(settings.home, target_is_directory=True)
            temporary.replace(link)
    except FileExistsError:  # another thread of this process makes the same link
        return
    except OSError as error:
        raise _refused(settings.home, folder, error.strerror or str(error)) from error


def _check_owner(folder: Path, home: Path) -> None:
    status = folder.lstat()
    own = getattr(os, "getuid", lambda: status.st_uid)()
    with contextlib.suppress(AttributeError):  # Windows has no owners
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != own or status.st_mode & 0o022:
            raise _refused(home, folder, "it belongs to somebody else, or others may write there")


def _refused(home: Path, folder: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"CHURN_HOME is {home}, whose path no URL can hold, and {folder}, where a link to it would stand, cannot be "
        f"used ({reason}); name a folder without '%', '?' and '#', or correct TMPDIR"
    )
