"""One script a figure; each runs the alternative beside ours in the same process."""
