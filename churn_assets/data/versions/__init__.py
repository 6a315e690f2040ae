"""Tables kept by their content: each row once, each table as a sequence of rows."""
