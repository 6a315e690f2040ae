"""What the terminal shows: messages, errors and tables."""
