"""Trains an ensemble, distils it into one student, and publishes both as ONNX."""
