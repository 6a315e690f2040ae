"""Which columns know the label before it happens, and the ladder of models without them."""
