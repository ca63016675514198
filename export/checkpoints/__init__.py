"""From any published file to a state dict and its recipe."""
