"""What a model file means: its spec, its skeleton, its passport."""
