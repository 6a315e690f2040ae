"""The honest-number ladder of a bundle, in a file beside it.

The audit fits the chosen recipe again, after the bundle is sealed under its content. So the ladder is no
file of the bundle: `<version>.ladder.json` lies beside the folder `<version>`, and goes wherever the bundle
is copied by those who want it (the Bento has it). It names the version it was climbed for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from churn_assets.storage.files import read_json_object, write_json


def ladder_path(bundle: Path) -> Path:
    """Where the ladder of a bundle's folder lies, whether it is there or not."""
    return bundle.with_name(f"{bundle.name}.ladder.json")


def write_ladder(bundle: Path, version: str, ladder: Mapping[str, Any]) -> Path:
    """Write the ladder of the bundle `version` beside it, whole or not at all; an older one is replaced."""
    return write_json(ladder_path(bundle), {"version": version, **ladder})


def read_ladder(bundle: Path, version: str) -> dict[str, Any] | None:
    """The ladder beside a bundle, None if there is none that was climbed for this version.

    It explains a model and decides nothing, so that a damaged one is no reason to refuse the bundle.
    """
    try:
        stored = read_json_object(ladder_path(bundle))
    except (OSError, ValueError):
        return None
    return stored if stored.get("version") == version else None
