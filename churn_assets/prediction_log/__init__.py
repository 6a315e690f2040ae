"""The durable log of predictions and feedback: records, segments, writer, feedback files; and its warehouse.

A prediction is answered only after its row is on disk. The writer is our own, on `fdatasync`, because one sync of
the disk then serves all requests that wait for it (group commit), and the files stay readable for any tool. A row
in SQLite for each request costs a sync each. What it buys, by `benchmarks/RESULTS.md`:

- `python -m benchmarks.serving`: 10,043 requests/s with the log and 12,398 without it (16 clients, one worker);
  104 us of CPU per request with it, 81 us without. The application with a SQLite row per request that is compared
  there answers 140 requests/s, its framework and its pandas pipeline included.
- `python -m benchmarks.serving_faults`: 100 kills, and 102,911 of 102,911 answered ids are in the log exactly once.
- `python -m benchmarks.ingest`: 33,778 rows/s into DuckDB, 37 times its `executemany`.
"""
