"""The prediction log in DuckDB: ingest, archive, the published copy and queries."""
