"""What a person reads of a table and of a model: pages and Markdown."""
