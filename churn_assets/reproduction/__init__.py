"""What a model was trained from, training it again from that, and how long it is kept."""
