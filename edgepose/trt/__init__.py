"""Everything of TensorRT: builds a plan, opens it, runs it."""
