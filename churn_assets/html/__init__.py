"""Pages, Markdown and charts: templates and the drawing of curves; Jinja2 is imported when a page is made."""
