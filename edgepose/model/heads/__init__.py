"""What a network's outputs mean: one kind of head a file."""
