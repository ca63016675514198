"""Training of the embedded model on labelled photographs and drawn figures (torch)."""
