"""What each page shows: a module a page, with the dataclass, the function that reads it and its charts."""
