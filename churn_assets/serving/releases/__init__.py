"""The releases of a home over HTTP: how the running one stands, its moves, and a request to retrain."""
