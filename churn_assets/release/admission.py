"""What was known of a model when it was registered, kept for the gate that it meets later."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from churn_assets.errors import AssetMissing
from churn_assets.release.gate import Model
from churn_assets.scoring.sealed import sync_directory

FOLDER = "admissions"


def keep_admission(home: Path, model: Model) -> Path:
    """Write the model's test figure and what its audit accuses; whole or not at all."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{model.version}.{os.getpid()}"
    with scratch.open("w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(model), indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / f"{model.version}.json")
    sync_directory(folder)
    return folder / f"{model.version}.json"


def read_admission(home: Path, version: str) -> Model:
    """What `keep_admission` wrote. Raises AssetMissing if it is not there or cannot be read."""
    path = home / FOLDER / f"{version}.json"
    try:
        stored = json.loads(path.read_bytes())
        accused = tuple((str(column), str(words)) for column, words in stored["accused"])
        return Model(str(stored["version"]), float(stored["pr_auc"]), bool(stored["generated"]), accused)
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise AssetMissing(
            f"{path} {words}, expected what the audit of model {version} found; "
            "register the model again: dagster asset materialize --select registered_model"
        ) from error
