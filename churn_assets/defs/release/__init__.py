"""A release that runs: its report, and the watch that ends or advances it where no service does."""
