"""The prediction log: append-only segments that are on disk before a client hears of its answer."""
