"""Serves every model of a model repository through onnxruntime, and compares them."""
