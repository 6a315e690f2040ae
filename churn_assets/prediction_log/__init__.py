"""The durable log of predictions and feedback: records, segments, writer, feedback files; and its warehouse.

A prediction is answered only after its row is on disk. The writer is our own, on `fdatasync`, because one sync of
the disk then serves all requests that wait for it (group commit), and the files stay readable for any tool; a row
in SQLite for each request costs a sync each. `benchmarks/RESULTS.md` has what it buys.
"""
