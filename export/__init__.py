"""Workstation half: PyTorch checkpoints to verified ONNX (torch, onnx, onnxsim)."""
