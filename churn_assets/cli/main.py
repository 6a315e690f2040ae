"""The entry of the `churn` command. Importing it takes a moment, so that ctrl-c is obeyed from the first moment."""

from churn_assets.cli.run.interrupt import exit_on_interrupt


def main() -> None:
    """Run the command line; a deliberate error is one line and exit code 2."""
    exit_on_interrupt()
    from churn_assets.cli.app import run_app

    run_app()


if __name__ == "__main__":
    main()
