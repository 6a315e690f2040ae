"""The assets; each body gathers its inputs, calls one plain function and reports what came of it."""
