"""Workstation half: calibration sets to INT8 ONNX (onnx, onnxruntime)."""
