"""`python -m churn_assets.defs.ui`: Dagster's UI on the instance of this home."""

import os
import sys

from churn_assets.defs.run import prepare_home
from churn_assets.settings import Settings


def main() -> None:
    """Become `dagster dev`, with a fork server for runs unless CHURN_EXECUTOR says otherwise."""
    prepare_home(Settings.from_environ(os.environ))
    os.environ.setdefault("CHURN_EXECUTOR", "forkserver")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "churn_assets.definitions", *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
