"""`edgepose demo`: the whole chain on an embedded model."""
