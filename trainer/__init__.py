"""Trains an ensemble, distils it into one student, and publishes both as ONNX.

"Section N" in a docstring is one of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""
