"""The entry of the `churn` command. Importing it takes a moment, so that ctrl-c is obeyed from the first moment."""

import os

from churn_assets.cli.run.interrupt import exit_on_interrupt


def main() -> None:
    """Run the command line; a deliberate error is one line and exit code 2."""
    exit_on_interrupt()
    # Small matrices: a second thread of BLAS waits more than it works, at the full cost of a core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from churn_assets.cli.app import run_app

    run_app()


if __name__ == "__main__":
    main()
