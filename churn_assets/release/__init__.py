"""Which model answers: the champion pointer and what may move it."""
