"""`python -m examples.demo`: play the demo in a home of its own and print what happens."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from churn_assets.errors import ChurnError
from churn_assets.settings import Settings
from examples.demo.progress import Progress
from examples.demo.scenes import Demo
from examples.demo.stage import DemoFailed, Stage

LIMIT_MINUTES = 60.0


def main() -> int:
    """Play all scenes; 0 if each ended as it should, 1 if one did not."""
    options = _options()
    settings = Settings.from_environ(os.environ)
    folder: Path = options.home.absolute() if options.home else settings.home / "demo"
    try:
        with Progress(sys.stdout) as progress, Stage(settings, folder, progress, 60 * options.limit) as stage:
            Demo(stage, progress).play()
    except (DemoFailed, ChurnError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"To look around: CHURN_HOME={stage.home} churn history (or churn status, churn ui)")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Drift, a broken pipeline and an equal challenger, met by the real service and daemon. "
        "Takes some five minutes on two idle cores.",
    )
    parser.add_argument("--home", type=Path, help="folder of the demo, emptied first (default: CHURN_HOME/demo)")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_MINUTES, metavar="MINUTES", help="give up after so long (default: 60)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
