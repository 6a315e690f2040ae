"""`python -m churn_assets.cli`."""

from churn_assets.cli.main import main

if __name__ == "__main__":
    main()
