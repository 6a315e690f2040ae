"""Pages for people: HTML and SVG from numbers, self-contained, by the standard library alone."""
