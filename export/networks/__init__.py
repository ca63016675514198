"""Network families: one nn.Module a file."""
