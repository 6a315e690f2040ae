"""The audit log of a home: calls that change who may use it or what it learns from, one JSON object a line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
from datetime import datetime
from pathlib import Path

from churn_assets.errors import AuditUnwritable

FILE = "audit.jsonl"


def record_call(home: Path, action: str, now: datetime, **facts: object) -> None:
    """Append a call, its instant and the account that made it, durably. Raises AuditUnwritable; then the call must not
    be made, so record it first."""
    entry = {"at": now.isoformat(), "account": _account(), "action": action, **facts}
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = os.open(home / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # a line that does not fit the disk is cut off again
            size, line = os.fstat(handle).st_size, json.dumps(entry).encode() + b"\n"
            if os.write(handle, line) != len(line):
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        text = f"{home / FILE}: cannot be written ({error.strerror}), expected the audit log of this home"
        raise AuditUnwritable(f"{text}; correct its permissions or free the disk, nothing was done") from error


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        return str(os.getuid())
