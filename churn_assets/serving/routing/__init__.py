"""Which models a worker holds, and which of them answers a customer."""
