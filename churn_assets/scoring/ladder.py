"""The honest-number ladder of a bundle, in a file beside it.

The audit fits the chosen recipe again, after the bundle is sealed under its content. So the ladder is no
file of the bundle: `<version>.ladder.json` lies beside the folder `<version>`, and goes wherever the bundle
is copied by those who want it (the Bento has it). It names the version it was climbed for.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from churn_assets.storage.sealed import canonical_json, sync_directory


def ladder_path(bundle: Path) -> Path:
    """Where the ladder of a bundle's folder lies, whether it is there or not."""
    return bundle.with_name(f"{bundle.name}.ladder.json")


def write_ladder(bundle: Path, version: str, ladder: Mapping[str, Any]) -> Path:
    """Write the ladder of the bundle `version` beside it, whole or not at all; an older one is replaced."""
    target = ladder_path(bundle)
    handle, scratch = tempfile.mkstemp(prefix=".ladder-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(canonical_json({"version": version, **ladder}))
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)  # mkstemp's 0600 would shut a service out that runs as somebody else
        Path(scratch).replace(target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
    return target


def read_ladder(bundle: Path, version: str) -> dict[str, Any] | None:
    """The ladder beside a bundle, None if there is none that was climbed for this version.

    It explains a model and decides nothing, so that a damaged one is no reason to refuse the bundle.
    """
    try:
        found = json.loads(ladder_path(bundle).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("version") != version:
        return None
    return found
