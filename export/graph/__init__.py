"""What is done to any ONNX graph, whatever network it is of."""
