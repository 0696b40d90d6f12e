"""ONNX files of any origin: what they take and give, and the standard graph around them (models/README.md)."""
