"""HTML and SVG for the pages; standard library only."""
