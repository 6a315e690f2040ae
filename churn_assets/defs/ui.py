"""`python -m churn_assets.defs.ui`: Dagster's UI on the instance of this home."""

import os
import shutil
import sys
from pathlib import Path

from churn_assets.settings import Settings

CONFIG = "dagster.yaml"


def prepare(settings: Settings) -> Path:
    """Make the home's DAGSTER_HOME with the project's `dagster.yaml` in it; returns the folder."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    ours = settings.root / CONFIG
    if ours.is_file():
        shutil.copyfile(ours, settings.dagster_home / CONFIG)
    return settings.dagster_home


def main() -> None:
    """Become `dagster dev`."""
    settings = Settings.from_environ(os.environ)
    prepare(settings)
    os.environ.update(settings.library_environ())
    os.environ.setdefault("CHURN_EXECUTOR", "forkserver")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "churn_assets.definitions", *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
