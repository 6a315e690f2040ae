"""What the log and final labels show of a release: figures for programs, a page for people."""
