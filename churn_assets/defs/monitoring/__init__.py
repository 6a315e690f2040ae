"""Reports on served predictions."""
